"""VainF/DeepLabV3Plus-Pytorch, `network/`: its tensors, and its networks as functions of them."""

import torch
import torch.nn.functional as F
from torch import Tensor
from written_out import (
    MOBILE_STAGES,
    Shapes,
    State,
    conv,
    conv_shapes,
    expanded,
    mobile_blocks,
    norm,
    norm_shapes,
    pooled,
    resized,
    resnet,
    resnet_shapes,
)

UNITS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def conv3x3_shapes(name: str, out_channels: int, in_channels: int, separable: bool) -> Shapes:
    if not separable:
        return conv_shapes(name, out_channels, in_channels, 3)
    depthwise: Shapes = {f"{name}.body.0.weight": (in_channels, 1, 3, 3)}
    return depthwise | conv_shapes(f"{name}.body.1", out_channels, in_channels)


def conv3x3(state: State, name: str, x: Tensor, rate: int = 1) -> Tensor:
    if f"{name}.weight" in state:
        return conv(state, name, x, 1, rate, rate)
    return conv(state, f"{name}.body.1", conv(state, f"{name}.body.0", x, 1, rate, rate))


def part(index: int) -> str:
    """Where MobileNetV2's part stands, the stem being 0."""
    return f"backbone.{'low' if index < 4 else 'high'}_level_features.{index}"


def block_names(index: int, has_expansion: bool) -> list[tuple[str, str]]:
    name, activated = f"{part(index)}.conv", 2 if has_expansion else 1
    pairs = [(f"{name}.{place}.0", f"{name}.{place}.1") for place in range(activated)]
    return [*pairs, (f"{name}.{activated}", f"{name}.{activated + 1}")]


def mobile_shapes() -> Shapes:
    shapes = conv_shapes(f"{part(0)}.0", 32, 3, 3) | norm_shapes(f"{part(0)}.1", 32)
    for index, (ins, hidden, outs) in enumerate(mobile_blocks(), 1):
        *expand, depthwise, project = block_names(index, hidden != ins)
        for convolution, batch_norm in expand:
            shapes |= conv_shapes(convolution, hidden, ins) | norm_shapes(batch_norm, hidden)
        shapes |= {f"{depthwise[0]}.weight": (hidden, 1, 3, 3)} | norm_shapes(depthwise[1], hidden)
        shapes |= conv_shapes(project[0], outs, hidden) | norm_shapes(project[1], outs)
    return shapes


def mobile(state: State, x: Tensor, output_stride: int) -> tuple[Tensor, Tensor]:
    """The fourth part's output and the last one's. The stem is not padded."""
    x = F.relu6(norm(state, f"{part(0)}.1", conv(state, f"{part(0)}.0", x, 2)))
    index, current, dilation, low = 0, 2, 1, x
    blocks = mobile_blocks()
    for _, _, count, stage_stride in MOBILE_STAGES:
        first = dilation
        if current == output_stride:
            stride, dilation = 1, dilation * stage_stride
        else:
            stride, current = stage_stride, current * stage_stride
        for place in range(count):
            index += 1
            ins, hidden, outs = blocks[index - 1]
            step, rate = (stride, first) if place == 0 else (1, dilation)
            x = expanded(state, block_names(index, hidden != ins), x, step, rate, step == 1 and ins == outs)
            if index == 3:
                low = x
    return low, x


def shapes_of(name: str, backbone: str, classes: int = 21, separable: bool = False) -> Shapes:
    mobilenet = backbone == "mobilenet"
    shapes = mobile_shapes() if mobilenet else resnet_shapes(UNITS[backbone])
    channels, low_channels = (320, 24) if mobilenet else (2048, 256)
    plus = name == "deeplabv3plus"
    head: Shapes = {}
    if plus:
        head = conv_shapes("classifier.project.0", 48, low_channels) | norm_shapes("classifier.project.1", 48)
    aspp = "classifier.aspp" if plus else "classifier.classifier.0"
    head |= conv_shapes(f"{aspp}.convs.0.0", 256, channels) | norm_shapes(f"{aspp}.convs.0.1", 256)
    for index in (1, 2, 3):
        head |= conv3x3_shapes(f"{aspp}.convs.{index}.0", 256, channels, separable)
        head |= norm_shapes(f"{aspp}.convs.{index}.1", 256)
    head |= conv_shapes(f"{aspp}.convs.4.1", 256, channels) | norm_shapes(f"{aspp}.convs.4.2", 256)
    head |= conv_shapes(f"{aspp}.project.0", 256, 1280) | norm_shapes(f"{aspp}.project.1", 256)
    first = 0 if plus else 1
    head |= conv3x3_shapes(f"classifier.classifier.{first}", 256, 304 if plus else 256, separable)
    head |= norm_shapes(f"classifier.classifier.{first + 1}", 256)
    return shapes | head | conv_shapes(f"classifier.classifier.{first + 3}", classes, 256, bias=True)


def logits(name: str, backbone: str, state: State, x: Tensor, output_stride: int) -> Tensor:
    if backbone == "mobilenet":
        low, h = mobile(state, x, output_stride)
    else:
        third, fourth = UNITS[backbone][2:]
        strides = [1, 2, 2, 1] if output_stride == 16 else [1, 2, 1, 1]
        if output_stride == 16:
            last = [[1] * third, [1] + [2] * (fourth - 1)]
        else:
            last = [[1] + [2] * (third - 1), [2] + [4] * (fourth - 1)]
        low, h = resnet(state, x, strides, [[1] * 3, [1] * 4, *last])
    plus = name == "deeplabv3plus"
    aspp = "classifier.aspp" if plus else "classifier.classifier.0"
    branches = [norm(state, f"{aspp}.convs.0.1", conv(state, f"{aspp}.convs.0.0", h)).relu()]
    for index in (1, 2, 3):
        rate = 6 * index * 16 // output_stride
        branches.append(
            norm(state, f"{aspp}.convs.{index}.1", conv3x3(state, f"{aspp}.convs.{index}.0", h, rate)).relu()
        )
    image = norm(state, f"{aspp}.convs.4.2", conv(state, f"{aspp}.convs.4.1", pooled(h))).relu()
    branches.append(image.expand_as(branches[0]))
    h = norm(state, f"{aspp}.project.1", conv(state, f"{aspp}.project.0", torch.cat(branches, 1))).relu()
    first = 0 if plus else 1
    if plus:
        low = norm(state, "classifier.project.1", conv(state, "classifier.project.0", low)).relu()
        h = torch.cat([low, resized(h, low.shape[2:], False)], 1)
    h = conv3x3(state, f"classifier.classifier.{first}", h)
    h = norm(state, f"classifier.classifier.{first + 1}", h).relu()
    return resized(conv(state, f"classifier.classifier.{first + 3}", h), x.shape[2:], False)
