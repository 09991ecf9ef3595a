"""mmsegmentation: DeepLab v3 and v3+ on ResNet-50 and -101.

Its ASPP concatenates the pooled map first, in front of the 1×1 branch.
"""

import re
from typing import Any

from torch import nn

from atrous.backbones.resnet import ResNet
from atrous.errors import WeightsError
from atrous.models import MMSegDeepLabV3, MMSegDeepLabV3Plus
from atrous.weights.schemes import torchvision
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix, order_of

_AUXILIARY = "auxiliary_head"
_STRIDES = {"1,2,1,1": 8, "1,2,2,1": 16, "1,2,2,2": 32}  # of the ResNet's blocks: the output stride
_DEPTHS = {"resnet50": "50", "resnet101": "101"}


def recognise(state: State) -> Found | None:
    logits = state.get("decode_head.conv_seg.weight")
    if logits is None:
        return None
    if "decode_head.image_pool.1.conv.weight" not in state or "decode_head.aspp_modules.0.conv.weight" not in state:
        raise WeightsError("a network without ASPP and image pooling: neither DeepLab v3 nor v3+")
    name = "deeplabv3plus" if "decode_head.sep_bottleneck.0.depthwise_conv.conv.weight" in state else "deeplabv3"
    backbone, stem = _backbone(state)
    auxiliary = _has_auxiliary(state)
    other = not auxiliary and any(key.startswith(f"{_AUXILIARY}.") for key in state)
    options = {
        "num_classes": len(logits),
        "output_stride": 8,
        "stem": stem,
        "channels": len(state["decode_head.aspp_modules.0.conv.weight"]),
        "aux": auxiliary,
    }
    head = ", with the auxiliary head" if auxiliary else ", without its auxiliary head, which has another form"
    described = f"{name}_r{_DEPTHS[backbone]}{'' if stem == 'deep' else 'b'}-d8{head if auxiliary or other else ''}"
    return Found(
        f"mmsegmentation_{name}_{backbone}",
        options,
        f"{described} (what its tensors do not tell: of a configuration with align_corners=True give that, of a "
        "d16-mg124 output_stride=16 and multi_grid=(1, 1, 2))",
        (f"{_AUXILIARY}.",) if other else (),
    )


def options_in(configuration: str) -> dict[str, Any]:
    """`create_model`'s options that a configuration's text says and the tensors do not.

    Raises:
        WeightsError: strides, or a multi-grid, that none of the published configurations has.
    """
    text = re.sub(r"\s", "", configuration).replace(",)", ")")  # newer files have a line for each number
    options: dict[str, Any] = {}
    if "align_corners=True" in text:
        options["align_corners"] = True
    strides = re.search(r"strides=\(([\d,]+)\)", text)
    if strides is not None:
        if strides[1] not in _STRIDES:
            raise WeightsError(f"its configuration has strides=({strides[1]}); there are {', '.join(_STRIDES)} here")
        options["output_stride"] = _STRIDES[strides[1]]
    rates = re.search(r"decode_head=.*?dilations=\(1,([\d,]+)\)", text)
    if rates is not None:
        given = tuple(int(rate) for rate in rates[1].split(","))
        if given != tuple(rate * 16 // options.get("output_stride", 8) for rate in (6, 12, 18)):
            options["aspp_rates"] = given
    grid = re.search(r"multi_grid=\(([\d,]+)\)", text)
    if grid is not None:
        if grid[1] != "1,2,4" or "strides=(1,2,2,1)" not in text:
            raise WeightsError(f"its configuration has multi_grid=({grid[1]}), but is no d16-mg124")
        options |= {"output_stride": 16, "multi_grid": (1, 1, 2)}
    return options


def _backbone(state: State) -> tuple[str, str]:
    """The ResNet and its stem.

    Raises:
        WeightsError: one that no backbone here is.
    """
    if "backbone.layer1.0.conv1.weight" not in state:
        raise WeightsError("its backbone is no ResNet: there are resnet50 and resnet101 here")
    if "backbone.stem.0.weight" in state:
        first, stem = "backbone.stem.0.weight", "deep"
    elif "backbone.conv1.weight" in state:
        first, stem = "backbone.conv1.weight", "7x7"
    else:
        raise WeightsError("its ResNet has neither a deep stem nor a 7×7 convolution")
    if state[first].shape[1] != 3:
        raise WeightsError(f"it takes images of {state[first].shape[1]} channels; models here take RGB")
    return torchvision.resnet_in(state, "backbone."), stem


def _has_auxiliary(state: State) -> bool:
    """Whether there is the one auxiliary head that its configurations have: one 3×3 convolution on block 3."""
    conv = state.get(f"{_AUXILIARY}.convs.0.conv.weight")
    further = (f"{_AUXILIARY}.convs.1.conv.weight", f"{_AUXILIARY}.conv_cat.conv.weight")
    return conv is not None and conv.shape == (256, 1024, 3, 3) and not any(name in state for name in further)


def layout(network: nn.Module) -> Layout | None:
    if not isinstance(network, (MMSegDeepLabV3, MMSegDeepLabV3Plus)) or not isinstance(network.backbone, ResNet):
        return None
    names = {
        "aspp.pointwise": "decode_head.aspp_modules.0",
        "aspp.image_pooling.project": "decode_head.image_pool.1",
        "aspp.project": "decode_head.bottleneck",
        "logits": "decode_head.conv_seg",
        "decoder.low_level": "decode_head.c1_bottleneck",
        "auxiliary": f"{_AUXILIARY}.convs.0",
        "auxiliary_logits": f"{_AUXILIARY}.conv_seg",
    }
    branches = len(network.aspp.atrous)
    for index in range(branches):
        names |= _conv(f"aspp.atrous.{index}", f"decode_head.aspp_modules.{index + 1}")
    for index in range(2):
        names |= _conv(f"decoder.fuse.{index}", f"decode_head.sep_bottleneck.{index}")
    if isinstance(network.backbone.conv1, nn.Sequential):
        names |= {"backbone.conv1": "backbone.stem", "backbone.bn1": "backbone.stem.7"}
    pool_first = [branches + 1, *range(branches + 1)]
    order = order_of([network.aspp.channels] * (branches + 2), pool_first)
    return Layout(by_prefix(names), {"aspp.project.conv.weight": order})


def _conv(ours: str, theirs: str) -> dict[str, str]:
    """A convolution with its batch norm, plain or separable."""
    parts = {f"{ours}.{part}": f"{theirs}.{part}_conv" for part in ("depthwise", "pointwise")}
    return {ours: theirs, **parts}


_CHOSEN = ("output_stride", "aspp_rates", "multi_grid", "align_corners")
SCHEME = Scheme("mmsegmentation", recognise, layout, chosen=_CHOSEN)
