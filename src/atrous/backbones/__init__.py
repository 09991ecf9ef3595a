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
from atrous.backbones.mobilenet_v3 import mobilenet_v3_large, mobilenet_v3_small
from atrous.backbones.resnet import resnet50, resnet101
from atrous.backbones.spp_net import SPPNet
from atrous.backbones.stride import Features, plan_strides
from atrous.backbones.vgg import vgg16
from atrous.backbones.xception import xception41, xception65, xception71

BACKBONES: dict[str, Callable[..., nn.Module]] = {
    "vgg16": vgg16,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "xception41": xception41,
    "xception65": xception65,
    "xception71": xception71,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v2_050": mobilenet_v2_050,
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite2,
}

__all__ = [
    "BACKBONES",
    "EfficientNetLiteClassifier",
    "Features",
    "SPPNet",
    "plan_strides",
]
