"""torchvision: `models.segmentation.deeplabv3_*`, and the ImageNet classifiers whose features DeepLab reads.

timm's ResNets have the same names, so that its resnet50 is recognised here.
"""

from torch import nn

from atrous.backbones.inverted_residual import MobileBackbone
from atrous.backbones.resnet import ResNet
from atrous.backbones.vgg import VGG16
from atrous.errors import WeightsError
from atrous.models import TorchvisionDeepLabV3
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix

_RESNETS = {6: "resnet50", 23: "resnet101"}  # by the units of block 3
_STEMS = {32: "deep", 64: "beta"}
_HEAD = {
    "aspp.pointwise.conv": "classifier.0.convs.0.0",
    "aspp.pointwise.bn": "classifier.0.convs.0.1",
    **{f"aspp.atrous.{index}.conv": f"classifier.0.convs.{index + 1}.0" for index in range(3)},
    **{f"aspp.atrous.{index}.bn": f"classifier.0.convs.{index + 1}.1" for index in range(3)},
    "aspp.image_pooling.project.conv": "classifier.0.convs.4.1",
    "aspp.image_pooling.project.bn": "classifier.0.convs.4.2",
    "aspp.project.conv": "classifier.0.project.0",
    "aspp.project.bn": "classifier.0.project.1",
    "refine.conv": "classifier.1",
    "refine.bn": "classifier.2",
    "logits": "classifier.4",
    "auxiliary.conv": "aux_classifier.0",
    "auxiliary.bn": "aux_classifier.1",
    "auxiliary_logits": "aux_classifier.4",
}


def recognise(state: State) -> Found | None:
    if "classifier.0.convs.0.0.weight" in state and "classifier.4.weight" in state:
        return _deeplab(state)
    if "layer1.0.conv1.weight" in state and "layer4.0.conv1.weight" in state:
        return _resnet_classifier(state)
    if "features.28.weight" in state and "features.0.weight" in state:
        return Found("vgg16", {}, "vgg16, an ImageNet classifier", ("classifier.",), backbone=True)
    if "features.0.0.weight" in state and "features.1.0.weight" not in state:
        return _mobile_classifier(state)
    return None


def resnet_in(state: State, prefix: str) -> str:
    """The ResNet that lies behind `prefix` under torchvision's names.

    Raises:
        WeightsError: one that no backbone here is.
    """
    if f"{prefix}layer1.0.conv3.weight" not in state:
        raise WeightsError("a ResNet-18 or -34, whose units are not bottlenecks; there are resnet50 and resnet101 here")
    second = state.get(f"{prefix}layer1.0.conv2.weight")
    if second is None or second.shape[:2] != (64, 64):
        raise WeightsError("a ResNeXt, a wide ResNet or another relative; there are resnet50 and resnet101 here")
    if f"{prefix}layer1.0.downsample.0.weight" not in state:
        raise WeightsError("a ResNet-D, whose shortcuts pool; there are resnet50 and resnet101 here")
    units = sum(name.startswith(f"{prefix}layer3.") and name.endswith(".conv1.weight") for name in state)
    if units not in _RESNETS:
        raise WeightsError(f"a ResNet with {units} units in block 3; there are resnet50 (6) and resnet101 (23) here")
    return _RESNETS[units]


def stem_in(state: State, prefix: str) -> dict[str, str]:
    """The `stem` option of that ResNet, if it is not the 7×7 convolution."""
    first = state.get(f"{prefix}conv1.0.weight")
    return {} if first is None else {"stem": _STEMS.get(first.shape[0], "7x7")}


def _deeplab(state: State) -> Found:
    if "backbone.layer1.0.conv1.weight" in state:
        backbone = resnet_in(state, "backbone.")
    elif "backbone.16.0.weight" in state:
        backbone = "mobilenet_v3_large"
    else:
        raise WeightsError("a DeepLab v3 of torchvision on a backbone that torchvision has no such model for")
    auxiliary = "aux_classifier.4.weight" in state
    options = {"num_classes": len(state["classifier.4.weight"]), "aux": auxiliary}
    with_auxiliary = ", with the auxiliary head" if auxiliary else ""
    return Found(f"torchvision_deeplabv3_{backbone}", options, f"deeplabv3_{backbone}{with_auxiliary}")


def _resnet_classifier(state: State) -> Found:
    name = resnet_in(state, "")
    options = {"stride_placement": "first_3x3", **stem_in(state, "")}
    return Found(name, options, f"{name}, an ImageNet classifier", ("fc.",), backbone=True)


def _mobile_classifier(state: State) -> Found | None:
    unused: tuple[str, ...] = ("classifier.",)
    if "features.18.0.weight" in state and "features.1.conv.0.0.weight" in state:
        name, unused = "mobilenet_v2", (*unused, "features.18.")
    elif "features.16.0.weight" in state and "features.4.block.2.fc1.weight" in state:
        name = "mobilenet_v3_large"
    elif "features.12.0.weight" in state and "features.4.block.2.fc1.weight" in state:
        name = "mobilenet_v3_small"
    else:
        return None
    options = {"variant": "torchvision"}
    return Found(name, options, f"{name}, an ImageNet classifier", unused, backbone=True)


def layout(network: nn.Module) -> Layout | None:
    if isinstance(network, TorchvisionDeepLabV3):
        if isinstance(network.backbone, ResNet):
            return Layout(by_prefix(_HEAD))
        body = {
            f"backbone.{ours}": theirs.replace("features.", "backbone.", 1)
            for ours, theirs in _mobile_names(network.backbone).items()
        }
        return Layout(by_prefix({**_HEAD, **body}))
    if isinstance(network, (ResNet, VGG16)):
        return Layout(by_prefix({}))
    if isinstance(network, MobileBackbone):
        return Layout(by_prefix(_mobile_names(network)))
    return None


def _mobile_names(backbone: nn.Module) -> dict[str, str]:
    """MobileNetV2 nests the activated convolutions of a block one deeper than the last; V3 counts all alike."""
    assert isinstance(backbone, MobileBackbone)
    second = not any(block.squeeze_excite for block in backbone.blocks)
    names = {"stem.conv": "features.0.0", "stem.bn": "features.0.1"}
    for index, block in enumerate(backbone.blocks):
        inner = f"features.{index + 1}.{'conv' if second else 'block'}"
        parts = [
            part for part in ("expand", "depthwise", "squeeze_excite", "project") if getattr(block, part) is not None
        ]
        for position, part in enumerate(parts):
            ours, theirs = f"blocks.{index}.{part}", f"{inner}.{position}"
            if part == "squeeze_excite":
                names[ours] = theirs
            elif second and part == "project":
                names |= {f"{ours}.conv": theirs, f"{ours}.bn": f"{inner}.{position + 1}"}
            else:
                names |= {f"{ours}.conv": f"{theirs}.0", f"{ours}.bn": f"{theirs}.1"}
    if backbone.last is not None:
        last = f"features.{len(backbone.blocks) + 1}"
        names |= {"last.conv": f"{last}.0", "last.bn": f"{last}.1"}
    return names


SCHEME = Scheme("torchvision", recognise, layout, chosen=("output_stride", "aspp_rates"))
