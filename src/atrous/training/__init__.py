"""Training: recipes, samples, the loop. Needs the extra `train`."""

from atrous.training.recipe import Recipe, load_recipe
from atrous.training.train import train

__all__ = ["Recipe", "load_recipe", "train"]
