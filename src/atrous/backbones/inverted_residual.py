"""The inverted residual (MobileNetV2, section 3.3), and the backbone that is a row of them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from atrous.backbones.stride import Features, Step, apply_output_stride
from atrous.layers import ConvNormAct

BN_EPS = 1e-3  # TensorFlow slim's for mobile backbones


class Stage(NamedTuple):
    """A row of equal blocks; the first holds the stride."""

    kernel_size: int
    stride: int
    expansion: int
    channels: int
    repeats: int


class InvertedResidual(nn.Module):
    """1×1 expansion, k×k depthwise, linear 1×1 projection; added to the input where the shapes allow it.

    Padding stands at the depthwise convolution, behind the expansion, and follows TensorFlow's "same".
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.nominal_stride = stride
        self.hidden_channels = hidden
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand = ConvNormAct(in_channels, hidden, act="relu6", eps=BN_EPS) if expansion > 1 else None
        self.depthwise = ConvNormAct(
            hidden, hidden, kernel_size, stride, groups=hidden, act="relu6", eps=BN_EPS, padding="same"
        )
        self.project = ConvNormAct(hidden, out_channels, act=None, eps=BN_EPS)

    def apply_step(self, step: Step) -> None:
        self.depthwise.conv.set_stride(step.stride)
        self.depthwise.conv.rate = step.rate_before

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×C×H×W to the block's output and the depthwise features within it."""
        inner: Tensor = self.depthwise(x if self.expand is None else self.expand(x))
        out: Tensor = self.project(inner)
        return (x + out if self.has_shortcut else out), inner


class MobileBackbone(nn.Module):
    """A 3×3 stem of stride 2 and a row of inverted residuals.

    The low-level features for v3+ are the depthwise output of the last block at stride 4, as in the released
    code's `layer_4/depthwise_output` of MobileNetV2.
    """

    stem_stride = 2

    def __init__(self, stem_channels: int, stages: Sequence[Stage]) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, stem_channels, 3, stride=2, act="relu6", eps=BN_EPS, padding="same")
        blocks: list[InvertedResidual] = []
        channels, stride = stem_channels, self.stem_stride
        for stage in stages:
            for index in range(stage.repeats):
                block_stride = stage.stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(channels, stage.channels, stage.kernel_size, block_stride, stage.expansion)
                )
                channels, stride = stage.channels, stride * block_stride
                if stride == 4:
                    self.low_level_index = len(blocks) - 1
        self.blocks = nn.ModuleList(blocks)
        self.out_channels = channels
        self.low_level_channels = blocks[self.low_level_index].hidden_channels

    def set_output_stride(self, output_stride: int) -> None:
        apply_output_stride(self.blocks, output_stride, self.stem_stride)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Features:
        """N×3×H×W to the low-level map (stride 4) and the last one."""
        x = self.stem(x)
        low_level = x
        for index, block in enumerate(self.blocks):
            x, inner = block(x)
            if index == self.low_level_index:
                low_level = inner
        return Features(low_level, x)
