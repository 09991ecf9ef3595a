"""Colours for classes, and labels shown on the photo."""

from atrous.viz.colours import label_colours
from atrous.viz.jpeg import strip_rows, write_jpeg
from atrous.viz.overlay import overlay, overlay_strips

__all__ = ["label_colours", "overlay", "overlay_strips", "strip_rows", "write_jpeg"]
