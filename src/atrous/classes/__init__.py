"""The classes of published data sets: names, and colours for those that have none."""

from atrous.classes.colours import label_colours
from atrous.classes.names import Colour, known_classes

__all__ = ["Colour", "known_classes", "label_colours"]
