"""The hot loops, each with a plain torch reference that the tests hold it to."""

from atrous.ops.atrous_conv import atrous_conv2d
from atrous.ops.average import View, average_views
from atrous.ops.depthwise import depthwise_conv2d
from atrous.ops.gaussian import gaussian_filter
from atrous.ops.permutohedral import Permutohedral, permutohedral
from atrous.ops.taps import Taps, taps_at
from atrous.ops.upsample import upsample_argmax, upsample_cross_entropy

__all__ = [
    "Permutohedral",
    "Taps",
    "View",
    "atrous_conv2d",
    "average_views",
    "depthwise_conv2d",
    "gaussian_filter",
    "permutohedral",
    "taps_at",
    "upsample_argmax",
    "upsample_cross_entropy",
]
