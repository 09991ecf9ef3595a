"""A convolution of two concatenated maps as the sum of one of each: exact, and without the concatenation.

The decoder of v3+ (section 3.1) joins its two maps at stride 4, where what is joined is the largest map behind the
backbone: runtimes copy it whole, while they add a sum to a convolution's result as they write it. Image-level features
(v3, section 3.3) are one value a channel at every place, so that their part of ASPP's projection is one too, multiplied
once and not at every place.
"""

import copy

import torch
from torch import Tensor, nn

from atrous.layers import ASPP, AtrousConv2d, Decoder, SeparableConv
from atrous.models import SegmentationModel
from atrous.ops import resize
from atrous.weights.quantisation import Quantisation


def in_parts(model: SegmentationModel) -> SegmentationModel:
    """Rewrites ASPP and the decoder, in place, and returns the model; it computes the same.

    Args:
        model: without batch norm, as `folded` gives it.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, Decoder):
            model.set_submodule(name, _Decoder(module))
    return pooled_in_parts(model)


def pooled_in_parts(model: SegmentationModel) -> SegmentationModel:
    """Rewrites ASPP alone: in 8 bits a copy of the decoder's maps takes less than a sum, which is not in 8 bits."""
    for name, module in list(model.named_modules()):
        if isinstance(module, ASPP) and module.image_pooling is not None and module.project.conv.reach == 0:
            model.set_submodule(name, _ASPP(module))
    return model


def steps_in_parts(quantisation: Quantisation, model: SegmentationModel) -> Quantisation:
    """A model's steps for what `pooled_in_parts` made of it: those of a layer's convolution hold for both its parts."""
    of_two = [name for name, module in model.named_modules() if isinstance(module, _OfTwo)]

    def names(name: str) -> list[str]:
        whole = next((whole for whole in of_two if name.startswith(f"{whole}.")), None)
        if whole is None:
            return [name]
        return [f"{whole}.{part}{name.removeprefix(whole)}" for part in ("first", "second")]

    return Quantisation(
        {own: step for name, step in quantisation.activations.items() for own in names(name)},
        {own: steps for name, steps in quantisation.weights.items() for own in names(name)},
        {own: step for name, step in quantisation.inputs.items() for own in names(name)},
        {names(name)[0]: shift for name, shift in quantisation.shifts.items()},  # as the bias, with the first part
    )


class _ASPP(nn.Module):
    def __init__(self, aspp: ASPP) -> None:
        super().__init__()
        assert aspp.image_pooling is not None
        self.pointwise, self.atrous = aspp.pointwise, aspp.atrous
        self.image_pooling = _Pooling(aspp.image_pooling.project)
        self.project = _OfTwo(aspp.project, aspp.channels * (1 + len(aspp.atrous)))

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.pointwise(x), *(branch(x) for branch in self.atrous)]
        pooled = self.image_pooling(x)
        projected: Tensor = self.project(torch.cat(maps, 1) if len(maps) > 1 else maps[0], pooled)
        return projected


class _Pooling(nn.Module):
    """`ImagePooling` that is not spread over the map."""

    def __init__(self, project: nn.Module) -> None:
        super().__init__()
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.project(x.mean((2, 3), keepdim=True))
        return pooled


class _Decoder(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.low_level, self.align_corners = decoder.low_level, decoder.align_corners
        first, *rest = decoder.fuse
        _, conv = _convolutions(first)
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
        self.first, self.second = _part(layer, slice(channels)), _part(layer, slice(channels, None))
        self.act = _last(layer).get_submodule("act")

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        # The smaller one is there first, for the larger convolution to add as it writes.
        small = self.second(second)
        summed: Tensor = self.act(small + self.first(first))
        return summed


def _part(layer: nn.Module, channels: slice) -> nn.Module:
    """What a layer makes of some of its channels, before its last activation; the bias goes with the first ones."""
    part = copy.deepcopy(layer)
    depthwise, conv = _convolutions(part)
    for each in depthwise:
        each.weight = _kept(each.weight[channels])
        each.bias = None if each.bias is None else _kept(each.bias[channels])
        each.in_channels = each.out_channels = each.groups = len(each.weight)
    conv.weight = _kept(conv.weight[:, channels])
    conv.in_channels = conv.weight.shape[1]
    if channels.start:
        conv.bias = None
    _last(part).act = nn.Identity()
    return part


def _kept(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)


def _convolutions(layer: nn.Module) -> tuple[list[AtrousConv2d], AtrousConv2d]:
    """Those of each channel by itself, and the one over all of them that follows."""
    *depthwise, conv = (module for module in layer.modules() if isinstance(module, AtrousConv2d))
    return depthwise, conv


def _last(layer: nn.Module) -> nn.Module:
    """What of the layer holds its last activation."""
    return layer.pointwise if isinstance(layer, SeparableConv) else layer
