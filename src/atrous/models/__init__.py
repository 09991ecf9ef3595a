"""The models, one file a paper."""

from atrous.models.deeplab_v1 import DeepLabV1
from atrous.models.deeplab_v2 import DeepLabV2, DeepLabV2VGG
from atrous.models.deeplab_v3 import CascadedDeepLabV3, DeepLabV3
from atrous.models.deeplab_v3plus import DeepLabV3Plus
from atrous.models.describe import Description, Layer, describe
from atrous.models.jfzhang95 import JfzhangDeepLabV3Plus
from atrous.models.kazuto1011 import KazutoDeepLabV2, KazutoDeepLabV3, KazutoDeepLabV3Plus
from atrous.models.mmsegmentation import MMSegDeepLabV3, MMSegDeepLabV3Plus
from atrous.models.multi_scale import MultiScale, shrink_labels
from atrous.models.registry import backbone_of, create_model, list_models
from atrous.models.segmentation import SegmentationModel
from atrous.models.smp import SmpDeepLabV3, SmpDeepLabV3Plus
from atrous.models.torchvision import TorchvisionDeepLabV3
from atrous.models.vainf import VainFDeepLabV3, VainFDeepLabV3Plus

__all__ = [
    "CascadedDeepLabV3",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV2VGG",
    "DeepLabV3",
    "DeepLabV3Plus",
    "Description",
    "JfzhangDeepLabV3Plus",
    "KazutoDeepLabV2",
    "KazutoDeepLabV3",
    "KazutoDeepLabV3Plus",
    "Layer",
    "MMSegDeepLabV3",
    "MMSegDeepLabV3Plus",
    "MultiScale",
    "SegmentationModel",
    "SmpDeepLabV3",
    "SmpDeepLabV3Plus",
    "TorchvisionDeepLabV3",
    "VainFDeepLabV3",
    "VainFDeepLabV3Plus",
    "backbone_of",
    "create_model",
    "describe",
    "list_models",
    "shrink_labels",
]
