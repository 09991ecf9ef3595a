"""timm's ImageNet classifiers: the aligned Xceptions, MobileNetV2 and V3, EfficientNet-Lite.

Its ResNets have torchvision's names and are recognised there. Its `xception41`, `65` and `71.tf_in1k` are Google's
own, which v3+ starts from. MobileNetV2 has torchvision's form there. MobileNetV3 and EfficientNet-Lite exist in two:
`tf_…`, Google's weights with TensorFlow's padding and batch norm's epsilon of 1e-3, which is taken here, and its own.
Names and shapes do not tell them apart; the `config.json` of a directory does.
"""

import torch
from torch import nn

from atrous.backbones import BACKBONES
from atrous.backbones.inverted_residual import InvertedResidual, MobileBackbone
from atrous.backbones.xception import Xception
from atrous.errors import WeightsError
from atrous.weights.card import IMAGENET, SYMMETRIC
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix

XCEPTIONS = {13: "xception41", 21: "xception65", 23: "xception71"}  # by their blocks
_MOBILES = [name for name in BACKBONES if name.startswith(("mobilenet", "efficientnet"))]
_SEPARABLE = {
    "depthwise.conv": "conv_dw",
    "depthwise.bn": "bn_dw",
    "pointwise.conv": "conv_pw",
    "pointwise.bn": "bn_pw",
}


def recognise(state: State) -> Found | None:
    if "stem.0.conv.weight" in state and "blocks.0.stack.conv1.conv_dw.weight" in state:
        name = XCEPTIONS.get(len({key.split(".")[1] for key in state if key.startswith("blocks.")}), "")
        if not name or "blocks.0.stack.conv1.bn_pw.weight" not in state:
            raise WeightsError("an Xception of timm's that is none of xception41, xception65 and xception71")
        return Found(name, {}, f"{name}, an ImageNet classifier", ("head.",), *SYMMETRIC, backbone=True)
    if "conv_stem.weight" in state and "blocks.0.0.conv_dw.weight" in state:
        name = _mobile_of(state)
        second = name.startswith("mobilenet_v2")
        options = {"variant": "torchvision"} if second else {}
        values = IMAGENET if second else SYMMETRIC  # as the published weights were trained
        description = f"{name}, an ImageNet classifier"
        return Found(name, options, description, ("classifier.", "conv_head.", "bn2."), *values, backbone=True)
    return None


def _mobile_of(state: State) -> str:
    """Which one, by the channels of its depthwise convolutions."""
    widths = [tensor.shape[0] for key, tensor in state.items() if key.endswith(".conv_dw.weight")]
    for name in _MOBILES:
        with torch.device("meta"):
            backbone = BACKBONES[name]()
        assert isinstance(backbone, MobileBackbone)
        if [block.hidden_channels for block in _blocks(backbone)] == widths:
            return name
    raise WeightsError(f"a mobile network of timm's that is none of {', '.join(_MOBILES)}")


def layout(network: nn.Module) -> Layout | None:
    if isinstance(network, Xception):
        names = {
            f"blocks.{index}.stack.{conv}.{ours}": f"blocks.{index}.stack.conv{conv + 1}.{theirs}"
            for index in range(len(network.blocks))
            for conv in range(3)
            for ours, theirs in _SEPARABLE.items()
        }
        return Layout(by_prefix(names))
    if isinstance(network, MobileBackbone):
        return Layout(by_prefix(_mobile_names(network)))
    return None


def _mobile_names(backbone: MobileBackbone) -> dict[str, str]:
    """timm groups the blocks of one width; one without expansion is named from its depthwise convolution on."""
    names = {"stem.conv": "conv_stem", "stem.bn": "bn1"}
    stage, place, width = -1, 0, 0
    for index, block in enumerate(_blocks(backbone)):
        stage, place = (stage, place + 1) if block.out_channels == width else (stage + 1, 0)
        width = block.out_channels
        ours, theirs = f"blocks.{index}", f"blocks.{stage}.{place}"
        parts = ["depthwise", "project"] if block.expand is None else ["expand", "depthwise", "project"]
        convs = ["conv_dw", "conv_pw"] if block.expand is None else ["conv_pw", "conv_dw", "conv_pwl"]
        for position, (part, conv) in enumerate(zip(parts, convs, strict=True)):
            names |= {f"{ours}.{part}.conv": f"{theirs}.{conv}", f"{ours}.{part}.bn": f"{theirs}.bn{position + 1}"}
        names |= {f"{ours}.squeeze_excite.fc1": f"{theirs}.se.conv_reduce"}
        names |= {f"{ours}.squeeze_excite.fc2": f"{theirs}.se.conv_expand"}
    return names | {"last.conv": f"blocks.{stage + 1}.0.conv", "last.bn": f"blocks.{stage + 1}.0.bn1"}


def _blocks(backbone: MobileBackbone) -> list[InvertedResidual]:
    return list(backbone.blocks)  # type: ignore[arg-type]


SCHEME = Scheme("timm", recognise, layout)
