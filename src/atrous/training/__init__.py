"""Training: recipes, samples, the loop. Needs the extra `train`."""

from atrous.training.keeping import CHECKPOINT
from atrous.training.module import Trainee
from atrous.training.optimizer import make_optimizer
from atrous.training.recipe import Recipe, changed_recipe, load_recipe
from atrous.training.refusals import oddities
from atrous.training.samples import Photos
from atrous.training.starting import make_model, training_crops
from atrous.training.train import train
from atrous.training.unfolding import unfold_batch_norm

__all__ = [
    "CHECKPOINT",
    "Photos",
    "Recipe",
    "Trainee",
    "changed_recipe",
    "load_recipe",
    "make_model",
    "make_optimizer",
    "oddities",
    "train",
    "training_crops",
    "unfold_batch_norm",
]
