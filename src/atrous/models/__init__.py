"""The models, one file a paper."""

from atrous.models.deeplab_v3 import CascadedDeepLabV3, DeepLabV3
from atrous.models.deeplab_v3plus import DeepLabV3Plus
from atrous.models.describe import Description, Layer, describe
from atrous.models.registry import create_model, list_models
from atrous.models.segmentation import SegmentationModel

__all__ = [
    "CascadedDeepLabV3",
    "DeepLabV3",
    "DeepLabV3Plus",
    "Description",
    "Layer",
    "SegmentationModel",
    "create_model",
    "describe",
    "list_models",
]
