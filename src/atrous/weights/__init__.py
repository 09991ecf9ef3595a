"""Getting, reading and writing weights."""

from atrous.weights.card import IMAGENET, SYMMETRIC, ModelCard
from atrous.weights.classes import card_for, known_classes
from atrous.weights.colours import label_colours
from atrous.weights.converted import Converted
from atrous.weights.efficientnet_lite import imagenet_classifier, load_imagenet
from atrous.weights.saved import list_bundled, load_model, read_card, save_model

__all__ = [
    "IMAGENET",
    "SYMMETRIC",
    "Converted",
    "ModelCard",
    "card_for",
    "imagenet_classifier",
    "known_classes",
    "label_colours",
    "list_bundled",
    "load_imagenet",
    "load_model",
    "read_card",
    "save_model",
]
