"""Aligned Xception 41, 65 and 71 as in v3+'s released code (tensorflow/models, `deeplab/core/xception.py`).

Against the text of v3+ (section 4.2, "extra batch normalization and ReLU after each 3×3 depthwise convolution") the
released code, and so every released weight, has no ReLU between the depthwise and the pointwise convolution except
in the last block. A module's stride sits in its third separable convolution; all padding is centred, also
around strides, so that even and odd sizes are sampled alike.
"""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.stride import Features, Step, apply_output_stride
from atrous.layers import ConvNormAct, SeparableConv

BN_EPS = 1e-3

Skip = Literal["conv", "sum", "none"]


class XceptionModule(nn.Module):
    """Three separable convolutions and a skip connection.

    Args:
        channels: of each of the three.
        skip: a 1×1 convolution that holds the stride too, the input itself, or nothing.
        inner_relu: ReLU behind every convolution (the last block), else only in front of each separable one.
    """

    def __init__(
        self, in_channels: int, channels: tuple[int, int, int], stride: int, skip: Skip, inner_relu: bool = False
    ) -> None:
        super().__init__()
        self.nominal_stride = stride
        self.inner_channels, self.out_channels = channels[1:]
        self.has_sum = skip == "sum"
        self.inner_relu = inner_relu
        self.shortcut = ConvNormAct(in_channels, channels[2], act=None, eps=BN_EPS) if skip == "conv" else None
        inputs = (in_channels, *channels[:2])
        act: Literal["relu"] | None = "relu" if inner_relu else None
        self.stack = nn.ModuleList(
            SeparableConv(ins, outs, act=act, eps=BN_EPS) for ins, outs in zip(inputs, channels, strict=True)
        )
        self.apply_step(Step(stride, 1, 1))

    def apply_step(self, step: Step) -> None:
        for separable in self.stack:
            separable.conv.rate = step.rate_before  # type: ignore[union-attr]
        self.stack[2].conv.set_stride(step.stride)  # type: ignore[operator, union-attr]
        if self.shortcut is not None:
            self.shortcut.conv.set_stride(step.stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×C×H×W to the module's output and the second separable convolution's, before the ReLU behind it."""
        out = inner = x
        for index, separable in enumerate(self.stack):
            # Not in place: the first one's input is the skip connection, the last one's the low-level features.
            out = separable(out if self.inner_relu else F.relu(out))
            if index == 1:
                inner = out
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        elif self.has_sum:
            out = out + x
        return out, inner


class Xception(nn.Module):
    """Two 3×3 convolutions, then entry flow, middle flow and exit flow.

    Low-level features for v3+ are those of the released code: the second separable convolution's output, before its
    ReLU, in the module that leaves stride 4 (entry_flow/block2, in Xception-71 block3): 256 channels. Middle-level
    ones are the same of the module that leaves stride 8: 728 channels.

    Args:
        entry: channels and stride of the entry flow's modules.
        middle: how many modules of 728 channels the middle flow has.
    """

    stem_stride = 2

    def __init__(self, entry: Sequence[tuple[int, int]], middle: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNormAct(3, 32, 3, stride=2, eps=BN_EPS), ConvNormAct(32, 64, 3, eps=BN_EPS))
        blocks: list[XceptionModule] = []
        in_channels, stride = 64, self.stem_stride
        for channels, module_stride in entry:
            if stride == 4 and module_stride == 2:
                self.low_level_index = len(blocks)
            elif stride == 8 and module_stride == 2:
                self.middle_level_index = len(blocks)
            blocks.append(XceptionModule(in_channels, (channels,) * 3, module_stride, "conv"))
            in_channels, stride = channels, stride * module_stride
        blocks += [XceptionModule(in_channels, (in_channels,) * 3, 1, "sum") for _ in range(middle)]
        blocks.append(XceptionModule(in_channels, (728, 1024, 1024), 2, "conv"))
        blocks.append(XceptionModule(1024, (1536, 1536, 2048), 1, "none", inner_relu=True))
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = blocks[-1].out_channels
        self.low_level_channels = blocks[self.low_level_index].inner_channels
        self.middle_level_channels = blocks[self.middle_level_index].inner_channels
        self.fine_level_channels = 64

    def set_output_stride(self, output_stride: int) -> None:
        apply_output_stride(self.blocks, output_stride, self.stem_stride)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Features:
        """N×3×H×W to the maps at strides 4 (256 channels) and 8 (728), the last (2048) and the stem's (64)."""
        x = fine_level = self.stem(x)
        low_level = middle_level = x
        for index, block in enumerate(self.blocks):
            x, inner = block(x)
            if index == self.low_level_index:
                low_level = inner
            elif index == self.middle_level_index:
                middle_level = inner
        return Features(low_level, x, middle_level, fine_level=fine_level)


def xception41() -> Xception:
    return Xception([(128, 2), (256, 2), (728, 2)], middle=8)


def xception65() -> Xception:
    return Xception([(128, 2), (256, 2), (728, 2)], middle=16)


def xception71() -> Xception:
    return Xception([(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)], middle=16)
