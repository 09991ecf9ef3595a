"""What is explained: a trained model, or an architecture with random weights; at one scale."""

from pathlib import Path

import torch

from atrous.classes import label_colours
from atrous.inference import Predictor, load
from atrous.models import MultiScale, SegmentationModel, create_model, list_models
from atrous.weights import ModelCard

_CLASSES = 21  # of a model without weights, as in VOC


def open_predictor(model: str | Path, device: str = "auto") -> tuple[Predictor, bool]:
    """A predictor, and whether its weights are any but random.

    Args:
        model: as for `atrous.load`; or the name of an architecture, which gets random weights, always the same ones.

    Raises:
        WeightsError: nothing there, or not a model.
    """
    if str(model) not in list_models() or Path(model).exists():
        return load(model, device), True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = create_model(str(model), _CLASSES)
    colours = tuple((int(red), int(green), int(blue)) for red, green, blue in label_colours(_CLASSES))
    return Predictor(made, ModelCard(tuple(f"class {index}" for index in range(_CLASSES)), colours), device), False


def at_one_scale(model: SegmentationModel) -> SegmentationModel:
    """The model itself, or of one that runs at several scales the one that it runs."""
    return model.single if isinstance(model, MultiScale) else model
