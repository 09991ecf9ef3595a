"""jfzhang95/pytorch-deeplab-xception, `modeling/`: its tensors, and its networks as functions of them."""

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


def block_names(index: int, has_expansion: bool) -> list[tuple[str, str]]:
    name = f"backbone.features.{index}.conv"
    return [(f"{name}.{place}", f"{name}.{place + 1}") for place in ((0, 3, 6) if has_expansion else (0, 3))]


def second_name(name: str) -> str:
    """A block's name in the half that the network runs, from its name in the whole row."""
    index = int(name.split(".")[2])
    return name.replace(".features.", f".{'low' if index < 4 else 'high'}_level_features.", 1)


def mobile_shapes() -> Shapes:
    shapes = conv_shapes("backbone.features.0.0", 32, 3, 3) | norm_shapes("backbone.features.0.1", 32)
    for index, (ins, hidden, outs) in enumerate(mobile_blocks(), 1):
        *expand, depthwise, project = block_names(index, hidden != ins)
        for convolution, batch_norm in expand:
            shapes |= conv_shapes(convolution, hidden, ins) | norm_shapes(batch_norm, hidden)
        shapes |= {f"{depthwise[0]}.weight": (hidden, 1, 3, 3)} | norm_shapes(depthwise[1], hidden)
        shapes |= conv_shapes(project[0], outs, hidden) | norm_shapes(project[1], outs)
    return shapes


def mobile(state: State, x: Tensor, output_stride: int) -> tuple[Tensor, Tensor]:
    x = F.relu6(norm(state, "backbone.features.0.1", conv(state, "backbone.features.0.0", x, 2, 1)))
    index, current, rate, low = 0, 2, 1, x
    blocks = mobile_blocks()
    for _, _, count, stage_stride in MOBILE_STAGES:
        if current == output_stride:
            stride, dilation, rate = 1, rate, rate * stage_stride
        else:
            stride, dilation, current = stage_stride, 1, current * stage_stride
        for place in range(count):
            index += 1
            ins, hidden, outs = blocks[index - 1]
            step = stride if place == 0 else 1
            x = expanded(state, block_names(index, hidden != ins), x, step, dilation, step == 1 and ins == outs)
            if index == 3:
                low = x
    return low, x


def shapes_of(backbone: str, classes: int = 21) -> Shapes:
    mobilenet = backbone == "mobilenet"
    shapes = mobile_shapes() if mobilenet else resnet_shapes((3, 4, 23, 3))
    if mobilenet:
        shapes |= {second_name(name): shape for name, shape in shapes.items()}
    channels, low_channels = (320, 24) if mobilenet else (2048, 256)
    for index in range(1, 5):
        shapes |= conv_shapes(f"aspp.aspp{index}.atrous_conv", 256, channels, 1 if index == 1 else 3)
        shapes |= norm_shapes(f"aspp.aspp{index}.bn", 256)
    shapes |= conv_shapes("aspp.global_avg_pool.1", 256, channels) | norm_shapes("aspp.global_avg_pool.2", 256)
    shapes |= conv_shapes("aspp.conv1", 256, 1280) | norm_shapes("aspp.bn1", 256)
    shapes |= conv_shapes("decoder.conv1", 48, low_channels) | norm_shapes("decoder.bn1", 48)
    shapes |= conv_shapes("decoder.last_conv.0", 256, 304, 3) | norm_shapes("decoder.last_conv.1", 256)
    shapes |= conv_shapes("decoder.last_conv.4", 256, 256, 3) | norm_shapes("decoder.last_conv.5", 256)
    return shapes | conv_shapes("decoder.last_conv.8", classes, 256, bias=True)


def logits(backbone: str, state: State, x: Tensor, output_stride: int) -> Tensor:
    if backbone == "mobilenet":
        low, h = mobile(state, x, output_stride)
    else:
        strides, third, fourth = ([1, 2, 2, 1], 1, 2) if output_stride == 16 else ([1, 2, 1, 1], 2, 4)
        dilations = [[1] * 3, [1] * 4, [third] * 23, [fourth, 2 * fourth, 4 * fourth]]
        low, h = resnet(state, x, strides, dilations)
    branches = [norm(state, "aspp.aspp1.bn", conv(state, "aspp.aspp1.atrous_conv", h)).relu()]
    for index in (2, 3, 4):
        rate = 6 * (index - 1) * 16 // output_stride
        name = f"aspp.aspp{index}"
        branches.append(norm(state, f"{name}.bn", conv(state, f"{name}.atrous_conv", h, 1, rate, rate)).relu())
    image = norm(state, "aspp.global_avg_pool.2", conv(state, "aspp.global_avg_pool.1", pooled(h))).relu()
    branches.append(image.expand_as(branches[0]))
    h = norm(state, "aspp.bn1", conv(state, "aspp.conv1", torch.cat(branches, 1))).relu()
    low = norm(state, "decoder.bn1", conv(state, "decoder.conv1", low)).relu()
    h = torch.cat([resized(h, low.shape[2:], True), low], 1)
    h = norm(state, "decoder.last_conv.1", conv(state, "decoder.last_conv.0", h, 1, 1)).relu()
    h = norm(state, "decoder.last_conv.5", conv(state, "decoder.last_conv.4", h, 1, 1)).relu()
    return resized(conv(state, "decoder.last_conv.8", h), x.shape[2:], True)
