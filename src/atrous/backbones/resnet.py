"""ResNet-50 and -101 (He et al., arXiv 1512.03385) with atrous convolution, torchvision's parameter names.

Where a block's stride sits differs between the codes that people use, and decides what rate a unit gets when
the stride is taken out:
  "last_3x3"           TensorFlow slim, the code of v3 and v3+: the 3×3 of a block's last unit, blocks 1 to 3.
  "first_1x1"          Caffe and He et al.: the first 1×1 of the first unit of blocks 2 to 4 (v2's models).
  "first_3x3"          torchvision's ResNet "v1.5": the 3×3 of the first unit of blocks 2 to 4.
  "first_3x3_dilated"  the same, but that 3×3 is dilated itself once its stride is gone, as the units behind it are
                       (segmentation_models.pytorch, jfzhang95).
Multi-grid (1, 2, 4) at output stride 16 gives block 4 the rates (2, 4, 8), as v3's section 3.2.1 says; with
torchvision's the first unit's 3×3 stands before the stride, which gives (1, 4, 8).
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

from torch import Tensor, nn

from atrous.backbones.stride import Features, Step, apply_output_stride
from atrous.errors import AtrousError
from atrous.layers import AtrousConv2d, BatchNorm2d, normalise_and_activate
from atrous.ops import subsample

StridePlacement = Literal["last_3x3", "first_1x1", "first_3x3", "first_3x3_dilated"]
Stem = Literal["7x7", "beta", "deep"]
# Channels of the three 3×3 convolutions that stand for the 7×7 one.
THREE_CONV_STEMS = {"beta": (64, 64, 128), "deep": (32, 32, 64)}


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 and a shortcut; `unit_rate` is this unit's part in the multi-grid."""

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, stride: int, unit_rate: int, placement: StridePlacement
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.nominal_stride = stride
        self.unit_rate = unit_rate
        self.conv1 = AtrousConv2d(in_channels, channels, 1)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = AtrousConv2d(channels, channels, 3)
        self.bn2 = BatchNorm2d(channels)
        self.conv3 = AtrousConv2d(channels, out_channels, 1)
        self.bn3 = BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if in_channels != out_channels:
            self.downsample = nn.Sequential(AtrousConv2d(in_channels, out_channels, 1), BatchNorm2d(out_channels))
        self._stride_first = placement == "first_1x1"
        self._dilates_itself = placement in ("first_1x1", "first_3x3_dilated")
        self._stride = stride
        self.apply_step(Step(stride, 1, 1))

    def apply_step(self, step: Step) -> None:
        self._stride = step.stride
        self.conv1.set_stride(step.stride if self._stride_first else 1)
        self.conv2.set_stride(1 if self._stride_first else step.stride)
        self.conv2.rate = self.unit_rate * (step.rate_after if self._dilates_itself else step.rate_before)
        if self.downsample is not None:
            self.downsample[0].set_stride(step.stride)  # type: ignore[operator]

    def residual(self, x: Tensor) -> Tensor:
        """The branch beside the shortcut, before the two are added."""
        x = normalise_and_activate(self.conv1(x), self.bn1, self.relu)
        x = normalise_and_activate(self.conv2(x), self.bn2, self.relu)
        out: Tensor = self.bn3(self.conv3(x))
        return out

    def merge(self, x: Tensor, residual: Tensor) -> Tensor:
        """The unit's output, from its input and its residual branch."""
        if self.downsample is not None:
            x = self.downsample(x)
        elif self._stride > 1:
            x = subsample(x, self._stride)
        out: Tensor = self.relu(residual + x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(x, self.residual(x))


class ResNet(nn.Module):
    """ResNet with bottleneck units, up to its last block.

    Args:
        depths: units in each of the four blocks.
        multi_grid: unit rates of the three units of block 4 and of those after it (v3, section 3.2.1).
        stride_placement: see the module's text.
        stem: "7x7", or three 3×3 convolutions: "beta" of 64, 64 and 128 channels, as in the released models, and
            "deep" of 32, 32 and 64 (ResNet-C: mmsegmentation's, timm's resnet50c).
        ceil_mode: Caffe's max pooling: an even map of m gives m / 2 + 1 positions (v2's models).
        blocks: 5 to 7 add copies of block 4, each with a stride of its own (v3, section 3.2, "cascaded").
    """

    stem_stride = 4

    def __init__(
        self,
        depths: Sequence[int],
        *,
        multi_grid: Sequence[int] = (1, 2, 4),
        stride_placement: StridePlacement = "last_3x3",
        stem: Stem = "7x7",
        ceil_mode: bool = False,
        blocks: int = 4,
    ) -> None:
        super().__init__()
        if not 4 <= blocks <= 7:
            raise AtrousError(f"blocks={blocks} is not 4, 5, 6 or 7")
        if len(multi_grid) != depths[3]:
            raise AtrousError(f"multi_grid={tuple(multi_grid)} needs {depths[3]} numbers, one a unit of block 4")
        if stem not in get_args(Stem):
            raise AtrousError(f"stem={stem!r} is not one of {', '.join(get_args(Stem))}")
        if stride_placement not in get_args(StridePlacement):
            raise AtrousError(
                f"stride_placement={stride_placement!r} is not one of {', '.join(get_args(StridePlacement))}"
            )
        self.stride_placement = stride_placement
        in_channels = THREE_CONV_STEMS[stem][-1] if stem in THREE_CONV_STEMS else 64
        self.conv1 = (
            _three_convs(*THREE_CONV_STEMS[stem]) if stem in THREE_CONV_STEMS else AtrousConv2d(3, 64, 7, stride=2)
        )
        self.bn1 = BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=ceil_mode)
        self._blocks = blocks
        for index in range(blocks):
            depth = depths[min(index, 3)]
            channels = 64 * 2 ** min(index, 3)
            strides = [1] * depth
            if stride_placement == "last_3x3":
                strides[-1] = 2 if index < blocks - 1 else 1
            else:
                strides[0] = 2 if index > 0 else 1
            rates = multi_grid if index >= 3 else [1] * depth
            units = []
            for stride, rate in zip(strides, rates, strict=True):
                units.append(Bottleneck(in_channels, channels, stride, rate, stride_placement))
                in_channels = channels * Bottleneck.expansion
            setattr(self, f"layer{index + 1}", nn.Sequential(*units))
        self.out_channels = in_channels
        self.low_level_channels = 64 * Bottleneck.expansion
        self.middle_level_channels = 128 * Bottleneck.expansion
        self.auxiliary_channels = 256 * Bottleneck.expansion
        self.fine_level_channels = self.bn1.num_features

    def set_output_stride(self, output_stride: int) -> None:
        units = [unit for layer in self._layers() for unit in layer]
        apply_output_stride(units, output_stride, self.stem_stride)  # type: ignore[arg-type]

    def _layers(self) -> list[nn.Sequential]:
        return [getattr(self, f"layer{index + 1}") for index in range(self._blocks)]

    def forward(self, x: Tensor) -> Features:
        """N×3×H×W to the maps at strides 4 and 8 (256 and 512 channels), the last (2048), block 3's and the stem's.

        v3+ takes "Conv2 before striding" and, in one of its decoders, Conv3. With the stride in a block's last unit
        that is the residual branch of the unit before it, not yet summed (the released code's
        `block1/unit_2/bottleneck_v1/conv3`), otherwise the block's output.
        """
        fine_level = normalise_and_activate(self.conv1(x), self.bn1, self.relu)
        x = self.maxpool(fine_level)
        layers = self._layers()
        x, low_level = self._run(layers[0], x)
        x, middle_level = self._run(layers[1], x)
        auxiliary = x = layers[2](x)
        for layer in layers[3:]:
            x = layer(x)
        return Features(low_level, x, middle_level, auxiliary, fine_level)

    def _run(self, layer: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
        """A block's output, and what a decoder takes of it."""
        if self.stride_placement != "last_3x3":
            x = layer(x)
            return x, x
        *before, unit, last = layer
        for each in before:
            x = each(x)
        assert isinstance(unit, Bottleneck)
        taken = unit.residual(x)
        return last(unit.merge(x, taken)), taken


def _three_convs(first: int, second: int, third: int) -> nn.Sequential:
    """Three 3×3 convolutions; the last one's batch norm and ReLU are the ResNet's own `bn1` and `relu`."""
    return nn.Sequential(
        AtrousConv2d(3, first, 3, stride=2),
        BatchNorm2d(first),
        nn.ReLU(inplace=True),
        AtrousConv2d(first, second, 3),
        BatchNorm2d(second),
        nn.ReLU(inplace=True),
        AtrousConv2d(second, third, 3),
    )


resnet50 = partial(ResNet, (3, 4, 6, 3))
resnet101 = partial(ResNet, (3, 4, 23, 3))
