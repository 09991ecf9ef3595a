"""The classes of published data sets: names, and colours for those that have none."""

from atrous.weights.classes.colours import label_colours
from atrous.weights.classes.names import card_for, known_classes

__all__ = ["card_for", "known_classes", "label_colours"]
