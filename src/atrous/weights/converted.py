"""What comes of another project's file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from atrous.errors import WeightsError
from atrous.models import SegmentationModel
from atrous.weights.card import ModelCard


@dataclass(frozen=True)
class Converted:
    """A network with another project's weights.

    Attributes:
        model: in float32, in eval mode, on the CPU.
        card: what the file says of classes and normalisation, or what its project always does.
        found: what was recognised, in one line.
    """

    model: SegmentationModel
    card: ModelCard
    found: str


@dataclass
class Classifier:
    """An ImageNet classifier's weights: no model for photos, but a backbone's.

    Attributes:
        found: what was recognised, in one line.
        options: the backbone's forms, as far as the file tells them.
        fill: puts the weights into a backbone; raises WeightsError where it is another.
        mean, std: how its photos are normalised, RGB in 0..1.
    """

    found: str
    options: Mapping[str, Any]
    fill: Callable[[nn.Module], None]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ClassifierError(WeightsError):
    """A file that holds a classifier was taken for a model."""

    def __init__(self, path: Path, classifier: Classifier) -> None:
        super().__init__(
            f"{path}: {classifier.found}: it names what a photo shows, not where. "
            "Train a model on it: atrous train RECIPE --set model.pretrained_backbone=FILE"
        )
        self.classifier = classifier
