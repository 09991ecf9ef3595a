"""Getting, reading and writing weights."""

from atrous.classes import known_classes, label_colours
from atrous.weights.backbone import load_backbone
from atrous.weights.card import IMAGENET, SYMMETRIC, ModelCard
from atrous.weights.classes import card_for
from atrous.weights.convert import export_state
from atrous.weights.converted import Converted
from atrous.weights.efficientnet_lite import imagenet_classifier, load_imagenet
from atrous.weights.open import open_model
from atrous.weights.saved import list_bundled, load_model, read_card, save_model, write_state
from atrous.weights.zoo import ZooEntry, cache_directory, fetch, find_entry, is_fetched, list_zoo

__all__ = [
    "IMAGENET",
    "SYMMETRIC",
    "Converted",
    "ModelCard",
    "ZooEntry",
    "cache_directory",
    "card_for",
    "export_state",
    "fetch",
    "find_entry",
    "imagenet_classifier",
    "is_fetched",
    "known_classes",
    "label_colours",
    "list_bundled",
    "list_zoo",
    "load_backbone",
    "load_imagenet",
    "load_model",
    "open_model",
    "read_card",
    "save_model",
    "write_state",
]
