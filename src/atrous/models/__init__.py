"""The models, one file a paper."""

from atrous.models.deeplab_v1 import DeepLabV1
from atrous.models.deeplab_v2 import DeepLabV2, DeepLabV2VGG
from atrous.models.deeplab_v3 import CascadedDeepLabV3, DeepLabV3
from atrous.models.deeplab_v3plus import DeepLabV3Plus
from atrous.models.describe import Description, Layer, describe
from atrous.models.multi_scale import MultiScale
from atrous.models.registry import create_model, list_models
from atrous.models.segmentation import SegmentationModel
from atrous.models.torchvision import TorchvisionDeepLabV3

__all__ = [
    "CascadedDeepLabV3",
    "DeepLabV1",
    "DeepLabV2",
    "DeepLabV2VGG",
    "DeepLabV3",
    "DeepLabV3Plus",
    "Description",
    "Layer",
    "MultiScale",
    "SegmentationModel",
    "TorchvisionDeepLabV3",
    "create_model",
    "describe",
    "list_models",
]
