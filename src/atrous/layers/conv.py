"""Convolutions whose stride and rate can be changed on a live model, and the blocks made of them."""

from collections import OrderedDict
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.layers.norm import BatchNorm2d, normalise_and_activate
from atrous.ops import atrous_conv2d, depthwise_conv2d

Activation = Literal["relu", "relu6", "hard_swish"]
Padding = Literal["centred", "same", "none"]
_ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hard_swish": nn.Hardswish}


class AtrousConv2d(nn.Conv2d):
    """A 2-D convolution with rate (dilation); output size ceil(input / stride), for any odd kernel.

    `stride` and `rate` may be assigned at any time: the weights do not depend on them, which is what lets
    one model run at output stride 32, 16 or 8.

    Args:
        padding: "centred" pads rate·(k-1)/2 on every side. "same" is TensorFlow's rule, in which a stride of
            two on an even size pads less on the top and left: the two differ there and nowhere else. "none"
            leaves it to the caller, and the size is then less by rate·(k-1) before the stride divides it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        rate: int = 1,
        groups: int = 1,
        bias: bool = False,
        padding: Padding = "centred",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, groups=groups, bias=bias)
        self._same = padding == "same"
        self._pads = padding != "none"
        self.rate = rate

    @property
    def rate(self) -> int:
        return int(self.dilation[0])

    @rate.setter
    def rate(self, rate: int) -> None:
        if rate < 1:
            raise AtrousError(f"rate={rate}: give a whole number from 1 up")
        self.dilation = (rate, rate)
        self.padding: tuple[int, int] = (self.reach if self._pads else 0,) * 2

    @property
    def reach(self) -> int:
        """How far the kernel sees to each side, in positions."""
        return self.rate * (self.kernel_size[0] - 1) // 2

    def set_stride(self, stride: int) -> None:
        self.stride = (stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self._same and self.stride[0] > 1:
            pads = [self._excess(size) for size in (x.shape[-1], x.shape[-2])]
            if any(pads):
                # Centred padding less what TensorFlow leaves out on the top and left.
                left, top = (self.padding[0] - excess for excess in pads)
                x = F.pad(x, (left, self.padding[0], top, self.padding[0]))
                return self._convolve(x, 0)
        return self._convolve(x, self.padding[0])

    def _convolve(self, x: Tensor, padding: int) -> Tensor:
        if self.groups == self.in_channels == self.out_channels and self.bias is None:
            return depthwise_conv2d(x, self.weight, self.stride[0], padding, self.rate)
        if self._is_plainly_atrous and padding == self.reach:
            return atrous_conv2d(x, self.weight, self.bias, self.rate)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    @property
    def _is_plainly_atrous(self) -> bool:
        size = self.kernel_size[0]
        return (self.rate > 1 or size == 1) and self.stride[0] == 1 and self.groups == 1 and size % 2 == 1

    def _excess(self, size: int) -> int:
        """By how much "same" pads less on the top or left than centred padding does."""
        stride, reach = self.stride[0], self.rate * (self.kernel_size[0] - 1)
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        return self.padding[0] - total // 2


def activation(name: Activation | None) -> nn.Module:
    """The module for a name; None gives an identity."""
    if name is None:
        return nn.Identity()
    return _ACTIVATIONS[name](inplace=True)


class ConvNormAct(nn.Sequential):
    """Convolution (`conv`), batch norm (`bn`) and activation (`act`)."""

    conv: AtrousConv2d
    bn: BatchNorm2d
    act: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        rate: int = 1,
        groups: int = 1,
        act: Activation | None = "relu",
        eps: float = 1e-5,
        padding: Padding = "centred",
    ) -> None:
        conv = AtrousConv2d(in_channels, out_channels, kernel_size, stride, rate, groups, padding=padding)
        layers = OrderedDict(conv=conv, bn=BatchNorm2d(out_channels, eps=eps))
        super().__init__(OrderedDict(layers, act=activation(act)) if act else layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return normalise_and_activate(x, self.bn, self.act) if hasattr(self, "act") else self.bn(x)


class SeparableConv(nn.Sequential):
    """Atrous separable convolution (v3+, section 3.1): depthwise k×k at a rate, then 1×1.

    As in the released code's `split_separable_conv2d`, each of the two is followed by batch norm and ReLU; without
    an activation, as in Xception's entry and middle flow, by batch norm alone.
    """

    depthwise: ConvNormAct
    pointwise: ConvNormAct

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        rate: int = 1,
        act: Activation | None = "relu",
        eps: float = 1e-5,
    ) -> None:
        depthwise = ConvNormAct(in_channels, in_channels, kernel_size, rate=rate, groups=in_channels, act=act, eps=eps)
        pointwise = ConvNormAct(in_channels, out_channels, act=act, eps=eps)
        super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise))

    @property
    def conv(self) -> AtrousConv2d:
        """The convolution that carries the rate."""
        return self.depthwise.conv


class PlainSeparableConv(nn.Sequential):
    """Depthwise k×k at a rate, 1×1, then batch norm and ReLU once: without v3+'s batch norm and ReLU between the two.

    As in segmentation_models.pytorch and in VainF's `--separable_conv`.
    """

    depthwise: AtrousConv2d
    pointwise: AtrousConv2d
    bn: BatchNorm2d
    act: nn.Module

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, rate: int = 1) -> None:
        depthwise = AtrousConv2d(in_channels, in_channels, kernel_size, rate=rate, groups=in_channels)
        pointwise = AtrousConv2d(in_channels, out_channels, 1)
        norm = BatchNorm2d(out_channels)
        super().__init__(OrderedDict(depthwise=depthwise, pointwise=pointwise, bn=norm, act=nn.ReLU(inplace=True)))

    def forward(self, x: Tensor) -> Tensor:
        return normalise_and_activate(self.pointwise(self.depthwise(x)), self.bn, self.act)

    @property
    def conv(self) -> AtrousConv2d:
        """The convolution that carries the rate."""
        return self.depthwise


# What ASPP's branches and the decoder are made of: (in_channels, out_channels, kernel_size, rate=...) to a layer.
ConvLayer = type[ConvNormAct] | type[SeparableConv] | type[PlainSeparableConv]
