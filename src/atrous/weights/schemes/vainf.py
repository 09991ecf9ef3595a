"""VainF's `DeepLabV3Plus-Pytorch`: v3 and v3+ on ResNet-50, ResNet-101 and MobileNetV2.

The low-level features stand first in its decoder's concatenation, here they stand last.
"""

import re
from typing import Any

from torch import nn

from atrous.backbones.resnet import ResNet
from atrous.errors import WeightsError
from atrous.layers import PlainSeparableConv
from atrous.models import VainFDeepLabV3, VainFDeepLabV3Plus
from atrous.weights.schemes import torchvision
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix, order_of

_V3_ASPP, _V3PLUS_ASPP = "classifier.classifier.0", "classifier.aspp"
_BACKBONES = {"mobilenet": "mobilenet_v2"}
_HALVES = re.compile(r"^features\.(\d+)")
_LOW_LEVEL_PARTS = 4  # of MobileNetV2: the stem and three blocks, down to stride 4


def recognise(state: State) -> Found | None:
    if f"{_V3_ASPP}.convs.0.0.weight" in state and "classifier.classifier.4.weight" in state:
        name, last, separable = "deeplabv3", "classifier.classifier.4.weight", False
    elif f"{_V3PLUS_ASPP}.convs.0.0.weight" in state and "classifier.classifier.3.weight" in state:
        name, last = "deeplabv3plus", "classifier.classifier.3.weight"
        separable = f"{_V3PLUS_ASPP}.convs.1.0.body.0.weight" in state
    else:
        return None
    backbone = _backbone_in(state)
    options: dict[str, Any] = {"num_classes": len(state[last])}
    if separable:
        options["separable"] = True
    form = "with --separable_conv, " if separable else ""
    description = f"{name}_{backbone} ({form}its output stride not told by the file)"
    return Found(f"vainf_{name}_{_BACKBONES.get(backbone, backbone)}", options, description)


def _backbone_in(state: State) -> str:
    if "backbone.low_level_features.0.0.weight" in state:
        return "mobilenet"
    if any(name.startswith("backbone.transition1.") for name in state):
        raise WeightsError("an HRNet, which is no backbone here")
    if "backbone.block1.rep.0.conv1.weight" in state:
        raise WeightsError("an Xception that pads by 1 whatever the rate, so that its maps shrink")
    if "backbone.layer1.0.conv1.weight" in state:
        return torchvision.resnet_in(state, "backbone.")
    raise WeightsError("on a backbone that the project does not have")


def layout(network: nn.Module) -> Layout | None:
    if isinstance(network, VainFDeepLabV3):
        head = _aspp(network, _V3_ASPP)
        head |= {"refine.conv": "classifier.classifier.1", "refine.bn": "classifier.classifier.2"}
        return Layout(by_prefix({**head, "logits": "classifier.classifier.4", **_body(network.backbone)}))
    if isinstance(network, VainFDeepLabV3Plus):
        decoder = network.decoder
        fuse = decoder.fuse[0]
        head = _aspp(network, _V3PLUS_ASPP) | _conv(fuse, "decoder.fuse.0", "classifier.classifier", 0)
        head |= {"decoder.low_level.conv": "classifier.project.0", "decoder.low_level.bn": "classifier.project.1"}
        names = {**head, "logits": "classifier.classifier.3", **_body(network.backbone)}
        order = order_of([network.aspp.channels, decoder.low_level.conv.out_channels], [1, 0])
        parts = ("depthwise", "pointwise") if isinstance(fuse, PlainSeparableConv) else ("conv",)
        return Layout(by_prefix(names), {f"decoder.fuse.0.{part}.weight": order for part in parts})
    return None


def _aspp(network: VainFDeepLabV3 | VainFDeepLabV3Plus, there: str) -> dict[str, str]:
    names = _conv(network.aspp.pointwise, "aspp.pointwise", f"{there}.convs.0", 0)
    for index, branch in enumerate(network.aspp.atrous):
        names |= _conv(branch, f"aspp.atrous.{index}", f"{there}.convs.{index + 1}", 0)
    names |= _conv(network.aspp.pointwise, "aspp.image_pooling.project", f"{there}.convs.4", 1)
    return names | _conv(network.aspp.project, "aspp.project", f"{there}.project", 0)


def _conv(layer: nn.Module, here: str, there: str, index: int) -> dict[str, str]:
    """A convolution and its batch norm at the places `index` and the next of a sequence there."""
    norm = {f"{here}.bn": f"{there}.{index + 1}"}
    if isinstance(layer, PlainSeparableConv):
        return norm | {
            f"{here}.{part}": f"{there}.{index}.body.{place}" for place, part in enumerate(("depthwise", "pointwise"))
        }
    return norm | {f"{here}.conv": f"{there}.{index}"}


def _body(backbone: nn.Module) -> dict[str, str]:
    """ResNets have torchvision's names; so has MobileNetV2, but for being cut in two."""
    if isinstance(backbone, ResNet):
        return {}
    body = torchvision.layout(backbone)
    assert body is not None
    ours = {name.rpartition(".")[0] for name in backbone.state_dict()}
    return {f"backbone.{name}": f"backbone.{_HALVES.sub(_half, body.name(name))}" for name in ours}


def _half(match: re.Match[str]) -> str:
    return f"{'low' if int(match[1]) < _LOW_LEVEL_PARTS else 'high'}_level_features.{match[1]}"


SCHEME = Scheme("VainF", recognise, layout)
