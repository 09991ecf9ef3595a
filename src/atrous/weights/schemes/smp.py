"""segmentation_models.pytorch: `DeepLabV3` and `DeepLabV3Plus` on the encoders that exist here.

Its encoders have torchvision's names behind `encoder.`, those of timm (`tu-…`) timm's behind `encoder.model.`, with an
underscore for the first dot of an Xception's.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from atrous.backbones.xception import Xception
from atrous.errors import WeightsError
from atrous.models import SmpDeepLabV3, SmpDeepLabV3Plus
from atrous.weights.card import IMAGENET, SYMMETRIC
from atrous.weights.schemes import timm, torchvision
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix

# DeepLabV3's decoder was a Sequential before release 0.5.
_OLD_DECODER = {"decoder.0": "decoder.aspp", "decoder.1": "decoder.conv", "decoder.2": "decoder.bn"}
_HERE = "there are resnet50, resnet101, mobilenet_v2, tu-resnet50, tu-resnet101 and tu-xception41, 65 and 71 here"
_OPTIONS = {"name", "num_classes", "output_stride", "aspp_rates", "separable", "channels", "stride_placement"}
_FEATURES = {"mobilenet_v2": 1280}  # 2048 elsewhere


def recognise(state: State) -> Found | None:
    head = state.get("segmentation_head.0.weight")
    if head is None or not any(name.startswith("encoder.") for name in state):
        return None
    if "decoder.aspp.0.convs.0.0.weight" in state:
        name, aspp = "deeplabv3plus", "decoder.aspp.0."
    elif "decoder.aspp.convs.0.0.weight" in state:
        name, aspp = "deeplabv3", "decoder.aspp."
    elif "decoder.0.convs.0.0.weight" in state:
        name, aspp = "deeplabv3", "decoder.0."
    else:
        raise WeightsError("a network of segmentation_models_pytorch without ASPP: neither DeepLabV3 nor DeepLabV3Plus")
    encoder, options = _encoder(state)
    channels, features = state[f"{aspp}convs.0.0.weight"].shape[:2]
    if features != _FEATURES.get(encoder, 2048):
        raise WeightsError("its encoder_depth is less than 5: ASPP reads an earlier stage than the encoder's last")
    stride = {"deeplabv3": 8, "deeplabv3plus": 16}[name]
    found = {
        "num_classes": len(head),
        "output_stride": stride,
        "separable": f"{aspp}convs.1.0.1.weight" in state,
        "channels": channels,
        **options,
    }
    project = {"deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3Plus"}[name]
    classifier = ", without its classification head" if "classification_head.3.weight" in state else ""
    defaults = f"what its tensors do not tell: output stride {stride}, rates (12, 24, 36) unless given"
    description = f"{project} on {encoder}{classifier} ({defaults})"
    return Found(
        f"smp_{name}_{encoder.removeprefix('tu-')}",
        found,
        description,
        ("classification_head.",),
        *(SYMMETRIC if "xception" in encoder else IMAGENET),
        renamed=_OLD_DECODER if aspp == "decoder.0." else {},
    )


def _encoder(state: State) -> tuple[str, dict[str, Any]]:
    """The encoder's name there, and the options of the backbone here that the architecture does not have itself.

    Raises:
        WeightsError: one that no backbone here is.
    """
    if "encoder.model.layer1.0.conv1.weight" in state and "encoder.model.conv1.weight" in state:
        name = f"tu-{_resnet(state, 'encoder.model.')}"
        # timm leaves the rate of the unit that loses its stride as it was, as torchvision does.
        return name, {"stride_placement": "first_3x3"}
    if "encoder.layer1.0.conv1.weight" in state and "encoder.conv1.weight" in state:
        return _resnet(state, "encoder."), {}
    if "encoder.features.18.0.weight" in state and "encoder.features.1.conv.0.0.weight" in state:
        _check_input(state, "encoder.features.0.0.weight")
        return "mobilenet_v2", {}
    if "encoder.model.stem_0.conv.weight" in state and "encoder.model.blocks_0.stack.conv1.bn_dw.weight" in state:
        _check_input(state, "encoder.model.stem_0.conv.weight")
        return _xception(state), {}
    if "encoder.model.conv_stem.weight" in state:
        raise WeightsError(
            f"a mobile or efficient network of timm's, whose batch norm has an epsilon that names do not tell; {_HERE}"
        )
    raise WeightsError(f"an encoder of segmentation_models_pytorch that no backbone here is; {_HERE}")


def _resnet(state: State, prefix: str) -> str:
    name = torchvision.resnet_in(state, prefix)
    _check_input(state, f"{prefix}conv1.weight")
    return name


def _xception(state: State) -> str:
    prefix = "encoder.model.blocks_"
    blocks = {key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)}
    name = timm.XCEPTIONS.get(len(blocks))
    if name is None:
        raise WeightsError(f"an Xception of timm's that is none of {', '.join(timm.XCEPTIONS.values())}")
    if name == "xception71" and f"{prefix}4.shortcut.conv.weight" not in state:
        raise WeightsError(
            "tu-xception71 at output stride 8: timm leaves out a shortcut's convolution there that the network here has"
        )
    return f"tu-{name}"


def _check_input(state: State, first: str) -> None:
    channels = state[first].shape[1]
    if channels != 3:
        raise WeightsError(f"it takes images of {channels} channels; models here take RGB")


def layout(network: nn.Module) -> Layout | None:
    if not isinstance(network, (SmpDeepLabV3, SmpDeepLabV3Plus)) or not _exists_there(network):
        return None
    backbone, head = _backbone_names(network), by_prefix(_head_names(isinstance(network, SmpDeepLabV3Plus)))

    def name(ours: str) -> str:
        return backbone(ours.removeprefix("backbone.")) if ours.startswith("backbone.") else head(ours)

    return Layout(name)


def _exists_there(network: SmpDeepLabV3 | SmpDeepLabV3Plus) -> bool:
    """Whether smp could make it: with three rates, and a backbone without options but timm's placement of strides."""
    config = network.config
    placed_as_there = config.get("stride_placement") in (None, "first_3x3", "first_3x3_dilated")
    return set(config) <= _OPTIONS and len(network.aspp.rates) == 3 and placed_as_there


def _backbone_names(network: SmpDeepLabV3 | SmpDeepLabV3Plus) -> Callable[[str], str]:
    is_xception = isinstance(network.backbone, Xception)
    classifier = (timm if is_xception else torchvision).layout(network.backbone)
    assert classifier is not None
    theirs = classifier.name
    if is_xception:
        return lambda ours: "encoder.model." + theirs(ours).replace(".", "_", 1)
    # Two of its encoders are a resnet50: the placement of strides tells them apart, as in `_encoder`.
    prefix = "encoder.model." if network.config.get("stride_placement") == "first_3x3" else "encoder."
    return lambda ours: prefix + theirs(ours)


def _head_names(plus: bool) -> dict[str, str]:
    aspp = "decoder.aspp.0" if plus else "decoder.aspp"
    names = {
        "aspp.pointwise.conv": f"{aspp}.convs.0.0",
        "aspp.pointwise.bn": f"{aspp}.convs.0.1",
        "aspp.image_pooling.project.conv": f"{aspp}.convs.4.1",
        "aspp.image_pooling.project.bn": f"{aspp}.convs.4.2",
        "aspp.project.conv": f"{aspp}.project.0",
        "aspp.project.bn": f"{aspp}.project.1",
        "logits": "segmentation_head.0",
    }
    for index in range(3):
        names |= _conv(f"aspp.atrous.{index}", f"{aspp}.convs.{index + 1}.0", f"{aspp}.convs.{index + 1}.1")
    if plus:
        names |= _conv("refine", "decoder.aspp.1", "decoder.aspp.2")
        names |= _conv("decoder.low_level", "decoder.block1.0", "decoder.block1.1")
        names |= _conv("decoder.fuse.0", "decoder.block2.0", "decoder.block2.1")
    else:
        names |= _conv("refine", "decoder.conv", "decoder.bn")
    return names


def _conv(ours: str, conv: str, bn: str) -> dict[str, str]:
    """A convolution and its batch norm; one that is separable has two parts in place of one."""
    return {
        f"{ours}.conv": conv,
        f"{ours}.depthwise": f"{conv}.0",
        f"{ours}.pointwise": f"{conv}.1",
        f"{ours}.bn": bn,
    }


SCHEME = Scheme("smp", recognise, layout, chosen=("output_stride", "aspp_rates"))
