"""Labels shown on the photo."""

from atrous.viz.jpeg import strip_rows, write_jpeg
from atrous.viz.overlay import overlay, overlay_strips

__all__ = ["overlay", "overlay_strips", "strip_rows", "write_jpeg"]
