"""The inverted residual (MobileNetV2, section 3.3), and the backbone that is a row of them."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.stride import Features, Step, apply_output_stride
from atrous.errors import AtrousError
from atrous.layers import ConvNormAct
from atrous.layers.conv import Activation, Padding
from atrous.ops import spatial_mean

BN_EPS = 1e-3  # TensorFlow slim's for mobile backbones
NO_MULTI_GRID = (1, 1, 1)

MobileVariant = Literal["paper", "torchvision", "vainf", "jfzhang95"]
STEM_PADDING: dict[MobileVariant, Padding] = {
    "paper": "same",
    "torchvision": "centred",
    "vainf": "none",
    "jfzhang95": "centred",
}


class Stage(NamedTuple):
    """A row of equal blocks; the first holds the stride."""

    kernel_size: int
    stride: int
    expansion: int
    channels: int
    repeats: int


class SqueezeExcite(nn.Module):
    """Weighs the channels by what the whole map holds (MobileNetV3, section 5.3): a quarter of them, hard sigmoid.

    The mean over a map depends on how finely it is sampled, so that a model that has it is not exactly the same
    at two output strides.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = rounded(channels / 4)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.relu(self.fc1(spatial_mean(x))))
        return x * F.hardsigmoid(gate)


class InvertedResidual(nn.Module):
    """1×1 expansion, k×k depthwise, linear 1×1 projection; added to the input where the shapes allow it.

    Padding stands at the depthwise convolution, behind the expansion; but see "vainf" and "jfzhang95".

    Args:
        variant: what happens around a stride and at the borders. "paper" pads as TensorFlow's "same" and, where the
            stride is taken out, leaves the block's own rate as it was; "torchvision" pads alike on all sides and gives
            the block the rate that those behind it get. "vainf" and "jfzhang95" pad alike on all sides too, but in
            front of the expansion, whose batch norm turns the zeros into something else; rates are the paper's, in
            "jfzhang95" one for each stage (see `mobilenet_v2`). The stem of "vainf" is not padded at all.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        *,
        act: Activation = "relu6",
        squeeze_excite: bool = False,
        variant: MobileVariant = "paper",
        eps: float = BN_EPS,
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.nominal_stride = stride
        self.unit_rate = 1
        self.in_channels, self.hidden_channels, self.out_channels = in_channels, hidden, out_channels
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.variant = variant
        self._pads_first = variant in ("vainf", "jfzhang95")
        padding = "none" if self._pads_first else STEM_PADDING[variant]
        self.expand = ConvNormAct(in_channels, hidden, act=act, eps=eps) if hidden != in_channels else None
        self.depthwise = ConvNormAct(
            hidden, hidden, kernel_size, stride, groups=hidden, act=act, eps=eps, padding=padding
        )
        self.squeeze_excite = SqueezeExcite(hidden) if squeeze_excite else None
        self.project = ConvNormAct(hidden, out_channels, act=None, eps=eps)

    def apply_step(self, step: Step) -> None:
        self.depthwise.conv.set_stride(step.stride)
        rate = step.rate_after if self.variant == "torchvision" else step.rate_before
        self.depthwise.conv.rate = self.unit_rate * rate

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×C×H×W to the block's output and the depthwise features within it."""
        padded = F.pad(x, (self.depthwise.conv.reach,) * 4) if self._pads_first else x
        inner: Tensor = self.depthwise(padded if self.expand is None else self.expand(padded))
        weighed = inner if self.squeeze_excite is None else self.squeeze_excite(inner)
        out: Tensor = self.project(weighed)
        return (x + out if self.has_shortcut else out), inner


class MobileBackbone(nn.Module):
    """A 3×3 stem of stride 2, a row of inverted residuals, and perhaps a 1×1 convolution behind them.

    The low-level features for v3+ are the depthwise output of the last block at stride 4, as in the released code's
    `layer_4/depthwise_output` of MobileNetV2, the middle-level ones that of the last at stride 8 (`layer_7`), the fine
    ones that of the last at stride 2 or, without one, the stem's. The auxiliary ones are the first block's at stride 8.
    In every variant but "paper" they are those blocks' outputs, as in the ports to PyTorch.

    Args:
        multi_grid: unit rates of the last three blocks, as v3 (section 3.2.1) has them for a ResNet's. No released
            model has any but (1, 1, 1).
    """

    stem_stride = 2

    def __init__(
        self,
        stem: ConvNormAct,
        blocks: Sequence[InvertedResidual],
        last: ConvNormAct | None = None,
        *,
        multi_grid: Sequence[int] = NO_MULTI_GRID,
    ) -> None:
        super().__init__()
        if len(multi_grid) != 3 or min(multi_grid) < 1:
            raise AtrousError(f"multi_grid={tuple(multi_grid)} needs three numbers from 1 up, one a block at the end")
        for block, rate in zip(blocks[-3:], multi_grid, strict=True):
            block.unit_rate = rate
        self.stem = stem
        self.blocks = nn.ModuleList(blocks)
        self.last = last
        strides = [self.stem_stride]
        for block in blocks:
            strides.append(strides[-1] * block.nominal_stride)
        del strides[0]
        self.low_level_index = len(strides) - 1 - strides[::-1].index(4)
        self.low_level_channels = self._taken_channels(blocks[self.low_level_index])
        self.middle_level_index = len(strides) - 1 - strides[::-1].index(8)
        self.middle_level_channels = self._taken_channels(blocks[self.middle_level_index])
        fine = [index for index, stride in enumerate(strides) if stride == 2]
        self.fine_level_index = fine[-1] if fine else None
        self.fine_level_channels = self._taken_channels(blocks[fine[-1]]) if fine else stem.conv.out_channels
        self.auxiliary_index = strides.index(8)
        self.auxiliary_channels = blocks[self.auxiliary_index].out_channels
        self.out_channels = blocks[-1].out_channels if last is None else last.conv.out_channels

    def set_output_stride(self, output_stride: int) -> None:
        apply_output_stride(self.blocks, output_stride, self.stem_stride)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Features:
        """N×3×H×W to the maps at strides 4, 8 and 2 that decoders take, the last, and the auxiliary one (stride 8)."""
        x = self.stem(x)
        low_level = middle_level = auxiliary = fine_level = x
        for index, block in enumerate(self.blocks):
            x, inner = block(x)
            taken = inner if self.variant == "paper" else x
            if index == self.low_level_index:
                low_level = taken
            if index == self.middle_level_index:
                middle_level = taken
            if index == self.fine_level_index:
                fine_level = taken
            if index == self.auxiliary_index:
                auxiliary = x
        if self.last is not None:
            x = self.last(x)
        return Features(low_level, x, middle_level, auxiliary, fine_level)

    @property
    def variant(self) -> MobileVariant:
        """That of its blocks."""
        return self.blocks[0].variant  # type: ignore[return-value]

    def _taken_channels(self, block: InvertedResidual) -> int:
        return block.hidden_channels if self.variant == "paper" else block.out_channels


def mobile_stem(
    channels: int, *, act: Activation = "relu6", variant: MobileVariant = "paper", eps: float = BN_EPS
) -> ConvNormAct:
    """The 3×3 convolution of stride 2 that every mobile backbone begins with."""
    return ConvNormAct(3, channels, 3, stride=2, act=act, eps=eps, padding=STEM_PADDING[variant])


def inverted_residuals(
    in_channels: int, stages: Sequence[Stage], *, variant: MobileVariant = "paper", eps: float = BN_EPS
) -> list[InvertedResidual]:
    """The blocks of MobileNetV2's kind that stand in a table of stages."""
    blocks = []
    for stage in stages:
        for index in range(stage.repeats):
            stride = stage.stride if index == 0 else 1
            hidden = in_channels * stage.expansion
            blocks.append(
                InvertedResidual(
                    in_channels, hidden, stage.channels, stage.kernel_size, stride, variant=variant, eps=eps
                )
            )
            in_channels = stage.channels
    return blocks


def rounded(channels: float) -> int:
    """A channel count as the mobile papers' code rounds it: to a multiple of 8, never below nine tenths."""
    whole = max(8, int(channels + 4) // 8 * 8)
    return whole + 8 if whole < 0.9 * channels else whole
