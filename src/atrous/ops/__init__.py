"""The hot loops, each with a plain torch reference that the tests hold it to."""

from atrous.ops.atrous_conv import atrous_conv2d
from atrous.ops.average import Taps, View, average_views
from atrous.ops.depthwise import depthwise_conv2d
from atrous.ops.upsample import upsample_argmax, upsample_cross_entropy

__all__ = [
    "Taps",
    "View",
    "atrous_conv2d",
    "average_views",
    "depthwise_conv2d",
    "upsample_argmax",
    "upsample_cross_entropy",
]
