"""The models, one file a paper."""

from atrous.models.deeplab_v3 import DeepLabV3
from atrous.models.deeplab_v3plus import DeepLabV3Plus
from atrous.models.registry import create_model, list_models
from atrous.models.segmentation import SegmentationModel

__all__ = ["DeepLabV3", "DeepLabV3Plus", "SegmentationModel", "create_model", "list_models"]
