"""Engines: what turns a normalised, padded photo into coarse logits. All that follows is the same for each."""

from atrous.inference.engines.live import LiveEngine
from atrous.inference.engines.names import ENGINES, check_engine

__all__ = ["ENGINES", "LiveEngine", "check_engine"]
