"""MobileNetV2 (arXiv 1801.04381, table 2) up to its 320-channel layer, as DeepLab uses it."""

from collections.abc import Sequence
from itertools import islice
from typing import get_args

from atrous.backbones.inverted_residual import (
    BN_EPS,
    NO_MULTI_GRID,
    MobileBackbone,
    MobileVariant,
    Stage,
    inverted_residuals,
    mobile_stem,
)
from atrous.errors import AtrousError
from atrous.layers import ConvNormAct

TORCHVISION_EPS = 1e-5  # and that of the other ports to PyTorch

# kernel, stride, expansion, channels, repeats
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(3, 2, 6, 32, 3),
    Stage(3, 2, 6, 64, 4),
    Stage(3, 1, 6, 96, 3),
    Stage(3, 2, 6, 160, 3),
    Stage(3, 1, 6, 320, 1),
)


class StagewiseMobileNetV2(MobileBackbone):
    """jfzhang95's, in which all blocks of a stage have its first one's rate: behind a stride that is taken out too."""

    def set_output_stride(self, output_stride: int) -> None:
        super().set_output_stride(output_stride)
        blocks = iter(self.blocks)
        for stage in STAGES:
            first, *others = islice(blocks, stage.repeats)
            for block in others:
                block.depthwise.conv.rate = first.depthwise.conv.rate  # type: ignore[union-attr]


def mobilenet_v2(
    *, variant: MobileVariant = "paper", last: bool = False, multi_grid: Sequence[int] = NO_MULTI_GRID
) -> MobileBackbone:
    """320 channels.

    Args:
        variant: how strides are padded and taken out, see `InvertedResidual`. All but the paper's also have batch norm
            of epsilon 1e-5, and low-level features of 24 channels, a block's output.
        last: the 1×1 convolution to 1280 channels too that the classifier has behind the blocks.
        multi_grid: see `MobileBackbone`.
    """
    if variant not in get_args(MobileVariant):
        raise AtrousError(f"variant={variant!r} is not {' or '.join(get_args(MobileVariant))}")
    if variant == "jfzhang95" and tuple(multi_grid) != NO_MULTI_GRID:
        raise AtrousError(f"multi_grid={tuple(multi_grid)}: in variant 'jfzhang95' a whole stage has one rate")
    eps = BN_EPS if variant == "paper" else TORCHVISION_EPS
    make = StagewiseMobileNetV2 if variant == "jfzhang95" else MobileBackbone
    return make(
        mobile_stem(32, variant=variant, eps=eps),
        inverted_residuals(32, STAGES, variant=variant, eps=eps),
        ConvNormAct(320, 1280, act="relu6", eps=eps) if last else None,
        multi_grid=multi_grid,
    )


def mobilenet_v2_050(*, multi_grid: Sequence[int] = NO_MULTI_GRID) -> MobileBackbone:
    """Width .5: every channel count is halved exactly (the released code's divisible_by = 1)."""
    stages = [stage._replace(channels=stage.channels // 2) for stage in STAGES]
    return MobileBackbone(mobile_stem(16), inverted_residuals(16, stages), multi_grid=multi_grid)
