"""What a run learns from: the photos of its steps, and those that judge it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.data import CachedDataset, SegmentationDataset
from atrous.data.balance import count_pixels, sampling_weights
from atrous.evaluation import Evaluation
from atrous.models import SegmentationModel
from atrous.training.module import Trainee
from atrous.training.provenance import origin
from atrous.training.recipe import Recipe
from atrous.training.samples import Photos, Samples
from atrous.training.starting import make_loss, training_crops
from atrous.weights import ModelCard


@dataclass(frozen=True)
class Lesson:
    """Labelled photos. `atrous.training.distillation` has another kind, taught by a model.

    Attributes:
        train: what the steps are fed from.
        val: what judges the model.
        photos: `train`, decoded; None decodes what fits into memory.
    """

    train: SegmentationDataset
    val: SegmentationDataset
    photos: Photos | None = None

    def trainee(self, model: SegmentationModel, recipe: Recipe) -> Trainee:
        """The model with the loss that these samples ask for."""
        return Trainee(model, recipe, self.train.classes.ignore_index, make_loss(recipe, self.train))

    def samples(self, trainee: Trainee, card: ModelCard) -> Samples:
        """What the steps are fed."""
        photos = CachedDataset(self.train) if self.photos is None else self.photos
        return training_crops(photos, trainee.recipe, card, self.train.classes.ignore_index)

    def shares(self, recipe: Recipe) -> NDArray[np.float64] | None:
        """By which samples are drawn, with repetition; None takes each once an epoch."""
        return sampling_weights(count_pixels(self.train)) if recipe.balanced_sampling else None

    def fingerprints(self) -> dict[str, str]:
        """What tells these photos and masks from others, each under what it is of, in words for a message."""
        return {f"--data: photos or masks of {each.split}": each.fingerprint() for each in (self.train, self.val)}

    def origin(self, recipe: Recipe) -> dict[str, Any]:
        """What the saved model says of it."""
        return origin(recipe, self.train.root, len(self.train))

    def findings(self, evaluation: Evaluation) -> dict[str, Any]:
        """What the saved model says of its last judging beside the scores."""
        return {}
