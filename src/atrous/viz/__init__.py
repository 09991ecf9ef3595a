"""Labels shown on the photo, plots and pages."""

from atrous.viz.jpeg import strip_rows, write_jpeg
from atrous.viz.overlay import overlay, overlay_strips
from atrous.viz.page import Page

__all__ = ["Page", "overlay", "overlay_strips", "strip_rows", "write_jpeg"]
