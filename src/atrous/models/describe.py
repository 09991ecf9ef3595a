"""What a model is made of: every convolution with its true rate, parameters and multiply-adds."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models.registry import verified
from atrous.models.segmentation import SegmentationModel


@dataclass(frozen=True)
class Layer:
    """One convolution or fully connected layer, as it runs at the described size.

    Attributes:
        name: its place in the model, as in `named_modules`.
        rate: the distance between the kernel's taps; 1 is an ordinary convolution.
        size: (height, width) of its output.
        multiply_adds: of its kernel, over the whole map, padding counted like the rest.
    """

    name: str
    kernel_size: int
    stride: int
    rate: int
    groups: int
    in_channels: int
    out_channels: int
    size: tuple[int, int]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Description:
    """A model at an input size: the sums, and its layers in the order in which they run.

    `parameters` counts every weight, batch norm's scale and shift included; `multiply_adds` those of the layers,
    up to the coarse logits, as the papers count them; `verified` says what the tests hold the architecture to.
    """

    name: str
    paper: str
    verified: str
    output_stride: int
    size: tuple[int, int]
    parameters: int
    multiply_adds: int
    layers: tuple[Layer, ...]


def describe(model: SegmentationModel, size: int | tuple[int, int] = 513) -> Description:
    """Describes a model at an input size, without computing anything: no weights are read.

    Args:
        size: the input's side, or (height, width), in pixels.

    Raises:
        AtrousError: a size below 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise AtrousError(f"size={size} is no image: give a side of at least 1 pixel, or (height, width)")
    skeleton = copy.deepcopy(model).to("meta").eval()
    layers: list[Layer] = []

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        layers.append(_conv(name, module, output) if isinstance(module, nn.Conv2d) else _linear(name, module, output))

    hooks = [
        module.register_forward_hook(lambda m, _in, out, name=name: note(name, m, out))
        for name, module in skeleton.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.inference_mode():
        skeleton.coarse_logits(torch.empty(1, 3, height, width, device="meta"))
    for hook in hooks:
        hook.remove()
    name = str(model.config.get("name", type(model).__name__))
    return Description(
        name=name,
        paper=model.paper,
        verified=verified(name),
        output_stride=model.output_stride,
        size=(height, width),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        layers=tuple(layers),
    )


def _conv(name: str, conv: nn.Conv2d, output: Tensor) -> Layer:
    taps = conv.kernel_size[0] * conv.kernel_size[1] * conv.in_channels // conv.groups
    return Layer(
        name=name,
        kernel_size=conv.kernel_size[0],
        stride=conv.stride[0],
        rate=conv.dilation[0],
        groups=conv.groups,
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        size=(output.shape[-2], output.shape[-1]),
        parameters=_parameters(conv),
        multiply_adds=output.numel() * taps,
    )


def _linear(name: str, linear: Any, output: Tensor) -> Layer:
    return Layer(
        name=name,
        kernel_size=1,
        stride=1,
        rate=1,
        groups=1,
        in_channels=linear.in_features,
        out_channels=linear.out_features,
        size=(1, 1),
        parameters=_parameters(linear),
        multiply_adds=output.numel() * linear.in_features,
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
