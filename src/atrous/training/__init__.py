"""Training: recipes, samples, the loop. Needs the extra `train`."""

from atrous.training.module import Trainee, make_optimizer
from atrous.training.recipe import Recipe, changed_recipe, load_recipe
from atrous.training.samples import Photos
from atrous.training.train import CHECKPOINT, make_model, train, training_crops

__all__ = [
    "CHECKPOINT",
    "Photos",
    "Recipe",
    "Trainee",
    "changed_recipe",
    "load_recipe",
    "make_model",
    "make_optimizer",
    "train",
    "training_crops",
]
