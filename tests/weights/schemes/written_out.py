"""Networks of projects that cannot be installed, written out as functions of their tensors by name.

What a project's file holds is a table of names and shapes; what its network computes is the same names in the order
in which they are used. Both are taken from the project's sources, and neither from the code under test.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]
CLOSE = 1e-9  # relative, in norm, in float64


def conv_shapes(name: str, out_channels: int, in_channels: int, kernel_size: int = 1, bias: bool = False) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out_channels, in_channels, kernel_size, kernel_size)}
    return {**shapes, f"{name}.bias": (out_channels,)} if bias else shapes


def norm_shapes(name: str, channels: int) -> Shapes:
    vectors = {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def random_state(shapes: Shapes) -> State:
    """Weights and batch-norm statistics that hide nothing, in float64."""
    generator = torch.Generator().manual_seed(0)

    def value(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.tensor(7)
        if len(shape) == 4:
            deviation = math.sqrt(2 / math.prod(shape[1:]))
            return torch.randn(shape, generator=generator, dtype=torch.float64) * deviation
        low, high = {"running_var": (0.7, 1.5), "weight": (0.5, 1.0)}.get(name.rpartition(".")[2], (-0.2, 0.2))
        return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low

    return {name: value(name, shape) for name, shape in shapes.items()}


def conv(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding, dilation, groups)


def norm(state: State, name: str, x: Tensor) -> Tensor:
    values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return F.batch_norm(x, *values)


def resized(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=align_corners)


def pooled(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def deviation(ours: Tensor, theirs: Tensor) -> float:
    """Relative, in norm."""
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs).norm() / theirs.norm())


def noise(*size: int) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def resnet_shapes(units: tuple[int, ...]) -> Shapes:
    """torchvision's names, behind `backbone.`, without the classifier."""
    shapes = conv_shapes("backbone.conv1", 64, 3, 7) | norm_shapes("backbone.bn1", 64)
    width = 64
    for layer, count in enumerate(units):
        inner = 64 * 2**layer
        for unit in range(count):
            name = f"backbone.layer{layer + 1}.{unit}"
            for index, (outs, ins, size) in enumerate([(inner, width, 1), (inner, inner, 3), (4 * inner, inner, 1)], 1):
                shapes |= conv_shapes(f"{name}.conv{index}", outs, ins, size) | norm_shapes(f"{name}.bn{index}", outs)
            if unit == 0:
                shapes |= conv_shapes(f"{name}.downsample.0", 4 * inner, width)
                shapes |= norm_shapes(f"{name}.downsample.1", 4 * inner)
            width = 4 * inner
    return shapes


def resnet(state: State, x: Tensor, strides: list[int], dilations: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Block 1's output and block 4's, given the stride of each block and the dilation of each of its units."""
    x = norm(state, "backbone.bn1", conv(state, "backbone.conv1", x, 2, 3)).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    blocks = []
    for layer, (stride, rates) in enumerate(zip(strides, dilations, strict=True), 1):
        for unit, rate in enumerate(rates):
            name, step = f"backbone.layer{layer}.{unit}", stride if unit == 0 else 1
            h = norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", x)).relu()
            h = norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", h, step, rate, rate)).relu()
            h = norm(state, f"{name}.bn3", conv(state, f"{name}.conv3", h))
            if unit == 0:
                x = norm(state, f"{name}.downsample.1", conv(state, f"{name}.downsample.0", x, step))
            x = (h + x).relu()
        blocks.append(x)
    return blocks[0], blocks[3]


# MobileNetV2's stages: expansion, channels, blocks, stride.
MOBILE_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobile_blocks() -> list[tuple[int, int, int]]:
    """Channels in, hidden and out of each of the seventeen blocks."""
    blocks, width = [], 32
    for expansion, channels, count, _ in MOBILE_STAGES:
        for _ in range(count):
            blocks.append((width, width * expansion, channels))
            width = channels
    return blocks


def expanded(
    state: State, names: list[tuple[str, str]], x: Tensor, stride: int, dilation: int, has_sum: bool
) -> Tensor:
    """An inverted residual that pads in front of its expansion; `names` are its convolutions and batch norms."""
    h = F.pad(x, (dilation,) * 4)
    *before, depthwise, project = names
    for convolution, batch_norm in before:
        h = F.relu6(norm(state, batch_norm, conv(state, convolution, h)))
    h = F.relu6(norm(state, depthwise[1], conv(state, depthwise[0], h, stride, 0, dilation)))
    h = norm(state, project[1], conv(state, project[0], h))
    return x + h if has_sum else h
