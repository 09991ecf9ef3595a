"""A convolution of two concatenated maps as the sum of one of each: exact, and without the concatenation.

The decoder of v3+ (section 3.1) joins its two maps at stride 4, where what is joined is the largest map behind the
backbone: runtimes copy it whole, while they add a sum to a convolution's result as they write it. Image-level features
(v3, section 3.3) are one value a channel at every place, so that their part of ASPP's projection is one too, multiplied
once and not at every place.
"""

import copy

import torch
from torch import Tensor, nn

from atrous.layers import ASPP, AtrousConv2d, ConvNormAct, Decoder, PlainSeparableConv, SeparableConv
from atrous.models import SegmentationModel
from atrous.ops import resize


def in_parts(model: SegmentationModel) -> SegmentationModel:
    """Rewrites ASPP and the decoder, in place, and returns the model; it computes the same.

    Args:
        model: without batch norm, as `folded` gives it.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, Decoder):
            model.set_submodule(name, _Decoder(module))
        elif isinstance(module, ASPP) and module.image_pooling is not None and module.project.conv.reach == 0:
            model.set_submodule(name, _ASPP(module))
    return model


class _ASPP(nn.Module):
    def __init__(self, aspp: ASPP) -> None:
        super().__init__()
        assert aspp.image_pooling is not None
        self.branches = nn.ModuleList([aspp.pointwise, *aspp.atrous])
        self.pool = aspp.image_pooling.project
        self.project = _OfTwo(aspp.project, aspp.channels * len(self.branches))

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        pooled = self.pool(x.mean((2, 3), keepdim=True))
        projected: Tensor = self.project(torch.cat(maps, 1) if len(maps) > 1 else maps[0], pooled)
        return projected


class _Decoder(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.low_level, self.align_corners = decoder.low_level, decoder.align_corners
        first, *rest = decoder.fuse
        _, conv, _ = _layers(first)
        self.join = _OfTwo(first, conv.in_channels - decoder.low_level.conv.out_channels)
        self.fuse = nn.Sequential(*rest)

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        height, width = low_level.shape[-2:]
        x = resize(x, (height, width), self.align_corners)
        fused: Tensor = self.fuse(self.join(x, self.low_level(low_level)))
        return fused


class _OfTwo(nn.Module):
    """A layer of two concatenated maps, of the maps themselves.

    Args:
        layer: whose first convolution over all channels is divided.
        channels: of the first map; the second has the rest, and may be 1×1 if the layer sees one place alone.
    """

    def __init__(self, layer: nn.Module, channels: int) -> None:
        super().__init__()
        depthwise, conv, self.act = _layers(layer)
        self.first, self.second = (
            nn.Sequential(*(_channels(each, part) for each in depthwise), _inputs(conv, part))
            for part in (slice(channels), slice(channels, None))
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        # The smaller one is there first, for the larger convolution to add as it writes.
        small = self.second(second)
        summed: Tensor = self.act(small + self.first(first))
        return summed


def _layers(layer: nn.Module) -> tuple[list[nn.Module], AtrousConv2d, nn.Module]:
    """What it does to each channel by itself, then its convolution over all of them, then its activation."""
    if isinstance(layer, SeparableConv):
        return [layer.depthwise.conv, layer.depthwise.act], layer.pointwise.conv, layer.pointwise.act
    if isinstance(layer, PlainSeparableConv):
        return [layer.depthwise], layer.pointwise, layer.act
    assert isinstance(layer, ConvNormAct)
    return [], layer.conv, layer.act


def _channels(module: nn.Module, part: slice) -> nn.Module:
    """Of a depthwise convolution, that of some channels; an activation is the same for all."""
    if not isinstance(module, AtrousConv2d):
        return module
    own = copy.deepcopy(module)
    own.weight = nn.Parameter(module.weight[part].clone(), requires_grad=False)
    if module.bias is not None:
        own.bias = nn.Parameter(module.bias[part].clone(), requires_grad=False)
    own.in_channels = own.out_channels = own.groups = len(own.weight)
    return own


def _inputs(conv: AtrousConv2d, part: slice) -> AtrousConv2d:
    """Of a convolution, that of some input channels; the bias goes with the first."""
    own = copy.deepcopy(conv)
    own.weight = nn.Parameter(conv.weight[:, part].clone(), requires_grad=False)
    if part.start:
        own.bias = None
    own.in_channels = own.weight.shape[1]
    return own
