"""A photo in, masks out."""

from atrous.inference.predictor import Predictor, load
from atrous.inference.segmentation import Failure, Segmentation

__all__ = ["Failure", "Predictor", "Segmentation", "load"]
