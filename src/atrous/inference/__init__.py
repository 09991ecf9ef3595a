"""A photo in, masks out."""

from atrous.inference.predictor import Predictor, load
from atrous.inference.segmentation import Failure, Segmentation, is_photo

__all__ = ["Failure", "Predictor", "Segmentation", "is_photo", "load"]
