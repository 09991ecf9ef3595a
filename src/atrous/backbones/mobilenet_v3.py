"""MobileNetV3 Large and Small (arXiv 1905.02244, tables 1 and 2) up to the last convolution before the pooling.

Hard-swish, squeeze-and-excitation with a hard sigmoid, batch norm of epsilon 1e-3. The paper's own segmentation
models halve the last stage; here it keeps its width, as in torchvision's models, so that ImageNet weights fit.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from atrous.backbones.inverted_residual import (
    BN_EPS,
    InvertedResidual,
    MobileBackbone,
    mobile_stem,
)
from atrous.errors import AtrousError
from atrous.layers import ConvNormAct
from atrous.layers.conv import Activation

STEM_CHANNELS = 16
Variant: TypeAlias = Literal["paper", "torchvision"]


class Row(NamedTuple):
    """A line of the paper's tables."""

    kernel_size: int
    hidden: int
    channels: int
    squeeze_excite: bool
    act: Activation
    stride: int


LARGE = (
    Row(3, 16, 16, False, "relu", 1),
    Row(3, 64, 24, False, "relu", 2),
    Row(3, 72, 24, False, "relu", 1),
    Row(5, 72, 40, True, "relu", 2),
    Row(5, 120, 40, True, "relu", 1),
    Row(5, 120, 40, True, "relu", 1),
    Row(3, 240, 80, False, "hard_swish", 2),
    Row(3, 200, 80, False, "hard_swish", 1),
    Row(3, 184, 80, False, "hard_swish", 1),
    Row(3, 184, 80, False, "hard_swish", 1),
    Row(3, 480, 112, True, "hard_swish", 1),
    Row(3, 672, 112, True, "hard_swish", 1),
    Row(5, 672, 160, True, "hard_swish", 2),
    Row(5, 960, 160, True, "hard_swish", 1),
    Row(5, 960, 160, True, "hard_swish", 1),
)
SMALL = (
    Row(3, 16, 16, True, "relu", 2),
    Row(3, 72, 24, False, "relu", 2),
    Row(3, 88, 24, False, "relu", 1),
    Row(5, 96, 40, True, "hard_swish", 2),
    Row(5, 240, 40, True, "hard_swish", 1),
    Row(5, 240, 40, True, "hard_swish", 1),
    Row(5, 120, 48, True, "hard_swish", 1),
    Row(5, 144, 48, True, "hard_swish", 1),
    Row(5, 288, 96, True, "hard_swish", 2),
    Row(5, 576, 96, True, "hard_swish", 1),
    Row(5, 576, 96, True, "hard_swish", 1),
)


def mobilenet_v3_large(*, variant: Variant = "paper") -> MobileBackbone:
    """960 channels; `variant` says how strides are padded and taken out, see `InvertedResidual`."""
    return _backbone(LARGE, variant)


def mobilenet_v3_small(*, variant: Variant = "paper") -> MobileBackbone:
    """576 channels; `variant` says how strides are padded and taken out, see `InvertedResidual`."""
    return _backbone(SMALL, variant)


def _backbone(rows: Sequence[Row], variant: Variant) -> MobileBackbone:
    if variant not in get_args(Variant):
        raise AtrousError(f"variant={variant!r} is not {' or '.join(get_args(Variant))}")
    blocks, channels = [], STEM_CHANNELS
    for row in rows:
        blocks.append(
            InvertedResidual(
                channels,
                row.hidden,
                row.channels,
                row.kernel_size,
                row.stride,
                act=row.act,
                squeeze_excite=row.squeeze_excite,
                variant=variant,
            )
        )
        channels = row.channels
    stem = mobile_stem(STEM_CHANNELS, act="hard_swish", variant=variant)
    last = ConvNormAct(channels, 6 * channels, act="hard_swish", eps=BN_EPS)
    return MobileBackbone(stem, blocks, last)
