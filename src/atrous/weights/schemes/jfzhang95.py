"""jfzhang95's `pytorch-deeplab-xception`: v3+ on ResNet-101 and MobileNetV2; not on its Xception and DRN.

Its files name the blocks of MobileNetV2 twice, as one row and as the two halves of it that are run.
"""

from typing import Any

from torch import nn

from atrous.backbones.inverted_residual import MobileBackbone
from atrous.backbones.resnet import ResNet
from atrous.errors import WeightsError
from atrous.models import DeepLabV3Plus
from atrous.weights.schemes import torchvision
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix

_LAST = "decoder.last_conv.8.weight"
_LOW_LEVEL_PARTS = 4  # of MobileNetV2: the stem and three blocks, down to stride 4
_HEAD = {
    "aspp.pointwise.conv": "aspp.aspp1.atrous_conv",
    "aspp.pointwise.bn": "aspp.aspp1.bn",
    **{f"aspp.atrous.{index}.conv": f"aspp.aspp{index + 2}.atrous_conv" for index in range(3)},
    **{f"aspp.atrous.{index}.bn": f"aspp.aspp{index + 2}.bn" for index in range(3)},
    "aspp.image_pooling.project.conv": "aspp.global_avg_pool.1",
    "aspp.image_pooling.project.bn": "aspp.global_avg_pool.2",
    "aspp.project.conv": "aspp.conv1",
    "aspp.project.bn": "aspp.bn1",
    "decoder.low_level.conv": "decoder.conv1",
    "decoder.low_level.bn": "decoder.bn1",
    "decoder.fuse.0.conv": "decoder.last_conv.0",
    "decoder.fuse.0.bn": "decoder.last_conv.1",
    "decoder.fuse.1.conv": "decoder.last_conv.4",
    "decoder.fuse.1.bn": "decoder.last_conv.5",
    "logits": "decoder.last_conv.8",
}


def recognise(state: State) -> Found | None:
    if "aspp.aspp1.atrous_conv.weight" not in state or "decoder.last_conv.0.weight" not in state:
        return None
    if _LAST not in state:
        raise WeightsError("an early form of it, whose decoder has no dropout and numbers its layers in another way")
    options: dict[str, Any] = {"num_classes": len(state[_LAST])}
    if "backbone.low_level_features.0.0.weight" in state:
        name, backbone = "jfzhang95_deeplabv3plus_mobilenet_v2", "mobilenet"
    elif "backbone.block1.rep.0.conv1.weight" in state:
        raise WeightsError(
            "an Xception that is not the Aligned one: its in-place ReLU reaches into the skip connections, "
            "the decoder reads the first block, and a convolution of block 20 is not dilated"
        )
    elif "backbone.layer0.0.weight" in state or "backbone.layer6.0.conv1.weight" in state:
        raise WeightsError("a DRN, which is no backbone here")
    elif "backbone.layer1.0.conv1.weight" in state:
        backbone = torchvision.resnet_in(state, "backbone.")
        name = f"deeplabv3plus_{backbone}"
        options["stride_placement"] = "first_3x3_dilated"
    else:
        raise WeightsError("on a backbone that the project does not have")
    return Found(name, options, f"DeepLab on {backbone} (its output stride not told by the file)")


def layout(network: nn.Module) -> Layout | None:
    if not isinstance(network, DeepLabV3Plus):
        return None
    head = [name for name in network.state_dict() if not name.startswith("backbone.")]
    if any(name.rpartition(".")[0] not in _HEAD for name in head):
        return None
    backbone = network.backbone
    if isinstance(backbone, ResNet) and backbone.stride_placement == "first_3x3_dilated":
        return Layout(by_prefix(_HEAD))
    if isinstance(backbone, MobileBackbone) and backbone.variant == "jfzhang95":
        parts = _mobile_names(backbone)
        names = {
            f"backbone.{ours}": f"backbone.{_half(theirs)}_level_features.{theirs}" for ours, theirs in parts.items()
        }
        rename = by_prefix({**_HEAD, **names})
        tensors = [rename(name) for name in network.state_dict()]
        copies = {
            name.replace("low_level_", "").replace("high_level_", ""): name for name in tensors if "_level_" in name
        }
        return Layout(rename, copies=copies)
    return None


def _half(part: str) -> str:
    return "low" if int(part.partition(".")[0]) < _LOW_LEVEL_PARTS else "high"


def _mobile_names(backbone: MobileBackbone) -> dict[str, str]:
    """Within a row of parts, the stem first: each block a row of convolutions, batch norms and activations."""
    names = {"stem.conv": "0.0", "stem.bn": "0.1"}
    for index, block in enumerate(backbone.blocks):
        parts = [part for part in ("expand", "depthwise", "project") if getattr(block, part) is not None]
        for place, part in enumerate(parts):
            ours, theirs = f"blocks.{index}.{part}", f"{index + 1}.conv"
            names |= {f"{ours}.conv": f"{theirs}.{3 * place}", f"{ours}.bn": f"{theirs}.{3 * place + 1}"}
    return names


SCHEME = Scheme("jfzhang95", recognise, layout)
