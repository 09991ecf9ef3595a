"""kazuto1011/deeplab-pytorch, `libs/models/`: its tensors, and its networks as functions of them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from written_out import Shapes, State, conv, conv_shapes, norm, norm_shapes, pooled, resized

UNITS = (3, 4, 23, 3)


def pair_shapes(name: str, out_channels: int, in_channels: int, kernel_size: int = 1) -> Shapes:
    return {
        **conv_shapes(f"{name}.conv", out_channels, in_channels, kernel_size),
        **norm_shapes(f"{name}.bn", out_channels),
    }


def pair(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    return norm(state, f"{name}.bn", conv(state, f"{name}.conv", x, stride, padding, dilation))


def resnet_shapes(units: tuple[int, ...] = UNITS) -> Shapes:
    shapes, width = pair_shapes("layer1.conv1", 64, 3, 7), 64
    for layer, count in enumerate(units):
        inner, outer = 64 * 2**layer, 256 * 2**layer
        for unit in range(1, count + 1):
            name = f"layer{layer + 2}.block{unit}"
            shapes |= pair_shapes(f"{name}.reduce", inner, width)
            shapes |= pair_shapes(f"{name}.conv3x3", inner, inner, 3)
            shapes |= pair_shapes(f"{name}.increase", outer, inner)
            if unit == 1:
                shapes |= pair_shapes(f"{name}.shortcut", outer, width)
            width = outer
    return shapes


def shapes_of(version: str, classes: int = 21, msc: bool = True) -> Shapes:
    """`version`: v2, v3, v3plus, or v1, the container of the weights that training starts from."""
    shapes = resnet_shapes()
    if version == "v1":
        shapes |= conv_shapes("fc", classes, 2048, bias=True)
    elif version == "v2":
        for index in range(4):
            shapes |= conv_shapes(f"aspp.c{index}", classes, 2048, 3, bias=True)
    else:
        shapes |= pair_shapes("aspp.stages.c0", 256, 2048)
        for index in (1, 2, 3):
            shapes |= pair_shapes(f"aspp.stages.c{index}", 256, 2048, 3)
        shapes |= pair_shapes("aspp.stages.imagepool.conv", 256, 2048)
        shapes |= pair_shapes("fc1", 256, 1280)
        if version == "v3":
            shapes |= conv_shapes("fc2", classes, 256, bias=True)
        else:
            shapes |= pair_shapes("reduce", 48, 256)
            shapes |= pair_shapes("fc2.conv1", 256, 304, 3)
            shapes |= pair_shapes("fc2.conv2", 256, 256, 3)
            shapes |= conv_shapes("fc2.conv3", classes, 256, bias=True)
    return {f"base.{name}": shape for name, shape in shapes.items()} if msc else shapes


def layer(state: State, number: int, x: Tensor, stride: int, dilations: list[int]) -> Tensor:
    for unit, dilation in enumerate(dilations, 1):
        name, step = f"layer{number}.block{unit}", stride if unit == 1 else 1
        h = pair(state, f"{name}.reduce", x, step).relu()
        h = pair(state, f"{name}.conv3x3", h, 1, dilation, dilation).relu()
        h = pair(state, f"{name}.increase", h)
        x = (h + (pair(state, f"{name}.shortcut", x, step) if unit == 1 else x)).relu()
    return x


def resnet(state: State, x: Tensor, output_stride: int, grid: list[int]) -> tuple[Tensor, Tensor]:
    """`layer2`'s output and `layer5`'s."""
    fourth, dilation = (2, 2) if output_stride == 16 else (1, 4)
    x = F.max_pool2d(pair(state, "layer1.conv1", x, 2, 3).relu(), 3, 2, 1, ceil_mode=True)
    low = x = layer(state, 2, x, 1, [1] * 3)
    x = layer(state, 3, x, 2, [1] * 4)
    x = layer(state, 4, x, fourth, [dilation // 2] * 23)
    return low, layer(state, 5, x, 1, [dilation * part for part in grid])


def base(version: str, state: State, x: Tensor, output_stride: int) -> Tensor:
    low, h = resnet(state, x, output_stride, [1, 1, 1] if version == "v2" else [1, 2, 4])
    if version == "v2":
        return sum(conv(state, f"aspp.c{index}", h, 1, rate, rate) for index, rate in enumerate((6, 12, 18, 24)))
    branches = [pair(state, "aspp.stages.c0", h).relu()]
    for index in (1, 2, 3):
        rate = 6 * index * 16 // output_stride
        branches.append(pair(state, f"aspp.stages.c{index}", h, 1, rate, rate).relu())
    branches.append(pair(state, "aspp.stages.imagepool.conv", pooled(h)).relu().expand_as(branches[0]))
    h = pair(state, "fc1", torch.cat(branches, 1)).relu()
    if version == "v3":
        return conv(state, "fc2", h)
    low = pair(state, "reduce", low).relu()
    h = torch.cat([resized(h, low.shape[2:], False), low], 1)
    h = pair(state, "fc2.conv1", h, 1, 1).relu()
    h = pair(state, "fc2.conv2", h, 1, 1).relu()
    return resized(conv(state, "fc2.conv3", h), x.shape[2:], False)


def logits(version: str, state: State, x: Tensor, output_stride: int, msc: bool = True) -> Tensor:
    """What `main.py` makes of a batch: the network's logits at the input's size."""
    if not msc:
        return resized(base(version, state, x, output_stride), x.shape[2:], False)
    state = {name.removeprefix("base."): tensor for name, tensor in state.items()}
    full = base(version, state, x, output_stride)
    every = [full]
    for scale in (0.5, 0.75):
        smaller = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        every.append(resized(base(version, state, smaller, output_stride), full.shape[2:], False))
    return resized(torch.stack(every).amax(0), x.shape[2:], False)
