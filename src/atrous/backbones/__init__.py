"""The networks that DeepLab reads its features from, one file a family."""

from collections.abc import Callable

from torch import nn

from atrous.backbones.efficientnet_lite import (
    EfficientNetLiteClassifier,
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
)
from atrous.backbones.mobilenet_v2 import mobilenet_v2, mobilenet_v2_050
from atrous.backbones.resnet import resnet50, resnet101
from atrous.backbones.stride import Features, plan_strides

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "resnet50": resnet50,
    "resnet101": resnet101,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v2_050": mobilenet_v2_050,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite2,
}

__all__ = [
    "BACKBONES",
    "EfficientNetLiteClassifier",
    "Features",
    "plan_strides",
]
