"""Published models: which there are, fetching them, and where they are kept."""

from atrous.weights.zoo.cache import cache_directory
from atrous.weights.zoo.download import Progress
from atrous.weights.zoo.published import ZooEntry, fetch, find_entry, is_fetched, list_zoo

__all__ = ["Progress", "ZooEntry", "cache_directory", "fetch", "find_entry", "is_fetched", "list_zoo"]
