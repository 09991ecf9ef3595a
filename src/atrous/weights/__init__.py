"""Getting, reading and writing weights."""

from atrous.weights.card import IMAGENET, SYMMETRIC, ModelCard
from atrous.weights.efficientnet_lite import imagenet_classifier, load_imagenet
from atrous.weights.saved import list_bundled, load_model, read_card, save_model

__all__ = [
    "IMAGENET",
    "SYMMETRIC",
    "ModelCard",
    "imagenet_classifier",
    "list_bundled",
    "load_imagenet",
    "load_model",
    "read_card",
    "save_model",
]
