"""The hot loops, each with a plain torch reference that the tests hold it to."""

from atrous.ops.atrous_conv import atrous_conv2d
from atrous.ops.average import View, average_views
from atrous.ops.batch_norm import UNCLIPPED, Clip, Running, batch_norm, has_batch_norm
from atrous.ops.channels_last import spatial_mean, subsample
from atrous.ops.depthwise import depthwise_conv2d
from atrous.ops.gaussian import gaussian_filter
from atrous.ops.lovasz import lovasz_losses
from atrous.ops.memory import keep_freed_memory
from atrous.ops.permutohedral import Permutohedral, permutohedral
from atrous.ops.resize import resize
from atrous.ops.taps import Taps, taps_at
from atrous.ops.upsample import upsample_argmax, upsample_cross_entropy

__all__ = [
    "UNCLIPPED",
    "Clip",
    "Permutohedral",
    "Running",
    "Taps",
    "View",
    "atrous_conv2d",
    "average_views",
    "batch_norm",
    "depthwise_conv2d",
    "gaussian_filter",
    "has_batch_norm",
    "keep_freed_memory",
    "lovasz_losses",
    "permutohedral",
    "resize",
    "spatial_mean",
    "subsample",
    "taps_at",
    "upsample_argmax",
    "upsample_cross_entropy",
]
