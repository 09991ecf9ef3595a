"""transformers: `MobileNetV2ForSemanticSegmentation`, Google's DeepLab v3 on MobileNetV2 carried over to PyTorch.

The names of its batch norms and its order (image pooling first) are TensorFlow's. Its logits stay at the output stride.
"""

from torch import nn

from atrous.backbones.inverted_residual import MobileBackbone
from atrous.errors import WeightsError
from atrous.models import DeepLabV3
from atrous.weights.card import SYMMETRIC
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix, order_of

_ARCHITECTURES = {32: "deeplabv3_mobilenet_v2", 16: "deeplabv3_mobilenet_v2_050"}  # by the stem's channels
_STEM = "mobilenet_v2.conv_stem"
_HEAD = {
    "aspp.pointwise": "segmentation_head.conv_aspp",
    "aspp.image_pooling.project": "segmentation_head.conv_pool",
    "aspp.project": "segmentation_head.conv_projection",
}
_PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}


def recognise(state: State) -> Found | None:
    if f"{_STEM}.first_conv.convolution.weight" not in state:
        return None
    classifier = state.get("segmentation_head.classifier.convolution.weight")
    if classifier is None:
        raise WeightsError("a MobileNetV2 without a segmentation head; MobileNetV2ForSemanticSegmentation has one")
    width = state[f"{_STEM}.first_conv.convolution.weight"].shape[0]
    if width not in _ARCHITECTURES:
        raise WeightsError(
            f"a MobileNetV2 whose first convolution has {width} channels; here it has 32, or 16 at width .5"
        )
    # The directory's config.json says another stride where there is one.
    options = {"num_classes": len(classifier), "output_stride": 8}
    unused = ("mobilenet_v2.conv_1x1.",)
    return Found(_ARCHITECTURES[width], options, "MobileNetV2ForSemanticSegmentation", unused, *SYMMETRIC)


def layout(network: nn.Module) -> Layout | None:
    if not isinstance(network, DeepLabV3) or not isinstance(network.backbone, MobileBackbone):
        return None
    if network.aspp.rates or network.aspp.image_pooling is None:
        return None
    places = {"backbone.stem": f"{_STEM}.first_conv", **_HEAD}
    for index in range(len(network.backbone.blocks)):
        there = _STEM if index == 0 else f"mobilenet_v2.layer.{index - 1}"
        places |= {f"backbone.blocks.{index}.{ours}": f"{there}.{theirs}" for ours, theirs in _PARTS.items()}
    names = {f"{ours}.conv": f"{there}.convolution" for ours, there in places.items()}
    names |= {f"{ours}.bn": f"{there}.normalization" for ours, there in places.items()}
    names["logits"] = "segmentation_head.classifier.convolution"
    pool_first = order_of([network.aspp.channels] * 2, [1, 0])
    return Layout(by_prefix(names), {"aspp.project.conv.weight": pool_first})


SCHEME = Scheme("transformers", recognise, layout)
