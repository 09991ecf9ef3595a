"""VGG-16 (Simonyan and Zisserman, arXiv 1409.1556) as v1 and v2 made it fully convolutional; torchvision's names.

All convolutions are 3×3 with a bias and a ReLU, without batch norm. What the released Caffe models differ in is
their pooling:
  "3x3"  LargeFOV, every MSc form and v2's ASPP: kernel 3, padding 1 in all five, so that responses of different
         layers lie on one another for inputs of 32k + 1.
  "2x2"  v1's first model (vgg128_noup): kernel 2 with padding 1 in pool1 to pool3, without padding in pool4; pool5 is
         3×3. Made for inputs of 8k + 2.
  "vgg"  the classifier itself: kernel 2, stride 2; without pool5, whose place a head's own pooling takes.
Sizes follow Caffe, which rounds up: at output stride 8 a side of n gives ceil((n - 1) / 8) + 1 positions with "3x3",
ceil(n / 8) with the others.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.stride import Features, Step, apply_output_stride
from atrous.errors import AtrousError
from atrous.layers import AtrousConv2d

Pooling = Literal["3x3", "2x2", "vgg"]

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def biased_conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, rate: int = 1) -> AtrousConv2d:
    """A convolution with a bias that keeps the size, for a ReLU behind it: He initialisation, zero bias."""
    conv = AtrousConv2d(in_channels, out_channels, kernel_size, stride, rate, bias=True)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class Pool(nn.Module):
    """Max pooling with Caffe's sizes (rounded up), whose window can be spread at a rate."""

    def __init__(self, kernel_size: int, padding: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.padding = padding
        self.stride = 2
        self.rate = 1

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.rate > 1:
            # torch pads by no more than half a kernel, whatever the rate.
            x = F.pad(x, (padding * self.rate,) * 4, value=-float("inf"))
            padding = 0
        return F.max_pool2d(x, self.kernel_size, self.stride, padding, self.rate, ceil_mode=True)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, rate={self.rate}"


class Block:
    """Convolutions and the pooling behind them, which holds the stride."""

    nominal_stride = 2

    def __init__(self, convs: list[AtrousConv2d], pool: Pool, spreads: bool) -> None:
        self.convs, self.pool, self.spreads = convs, pool, spreads

    def apply_step(self, step: Step) -> None:
        for conv in self.convs:
            conv.rate = step.rate_before
        self.pool.stride = step.stride
        self.pool.rate = step.rate_before if self.spreads else 1


class VGG16(nn.Module):
    """The thirteen convolutions of VGG-16 and their pooling.

    Args:
        pooling: see the module's text.
        average_pool5: v1's LargeFOV has an average pooling of 3×3 (pool5a) behind pool5.
        atrous_pooling: spread pool5's window with the rate. The released models do not: at output stride 8 their pool5
            sees half of what it sees at 16, and only with this are the features the same ones on a finer grid.
    """

    stem_stride = 1

    def __init__(self, *, pooling: Pooling = "3x3", average_pool5: bool = False, atrous_pooling: bool = False) -> None:
        super().__init__()
        if pooling not in ("3x3", "2x2", "vgg"):
            raise AtrousError(f"pooling={pooling!r} is not 3x3, 2x2 or vgg")
        self.pooling = pooling
        self.features = nn.Sequential()
        self._blocks: list[Block] = []
        in_channels = 3
        for index, block in enumerate(BLOCKS):
            convs = []
            for channels in block:
                convs.append(biased_conv(in_channels, channels, 3))
                self.features.extend([convs[-1], nn.ReLU(inplace=True)])
                in_channels = channels
            if index < 4 or pooling != "vgg":
                self.features.append(_pool(index, pooling))
                self._blocks.append(Block(convs, self.features[-1], atrous_pooling))  # type: ignore[arg-type]
        self.pool5a = nn.AvgPool2d(3, stride=1, padding=1) if average_pool5 else nn.Identity()
        self.low_level_channels = 128
        self.out_channels = in_channels

    def set_output_stride(self, output_stride: int) -> None:
        apply_output_stride(self._blocks, output_stride, self.stem_stride)

    def stages(self, x: Tensor) -> list[Tensor]:
        """N×3×H×W to the outputs of pool1 to pool4 and the last one."""
        if self.pooling == "2x2":
            # A side of 8k + 1 would lose its last position (and a side of 1 everything).
            x = F.pad(x, (0, int(x.shape[-1] % 8 == 1), 0, int(x.shape[-2] % 8 == 1)))
        outputs = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, Pool):
                outputs.append(x)
        return [*outputs[:4], self.pool5a(x)]

    def forward(self, x: Tensor) -> Features:
        """N×3×H×W to pool2's output (128 channels, stride 4) and the last (512 channels)."""
        stages = self.stages(x)
        return Features(stages[1], stages[-1])


def _pool(index: int, pooling: Pooling) -> Pool:
    if pooling == "vgg":
        return Pool(2, padding=0)
    if pooling == "3x3" or index == 4:
        return Pool(3, padding=1)
    return Pool(2, padding=0 if index == 3 else 1)


def vgg16(*, pooling: Pooling = "3x3", average_pool5: bool = False, atrous_pooling: bool = False) -> VGG16:
    return VGG16(pooling=pooling, average_pool5=average_pool5, atrous_pooling=atrous_pooling)
