"""Recipes of several stages: a training after another, each from the last weights of the one before (v3, 4.1).

The papers go on from the last iterate, not from whichever was judged best; of a moving average, that is its last value.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from atrous.errors import RecipeError
from atrous.evaluation import Scores
from atrous.models import SegmentationModel
from atrous.training.keeping import CHECKPOINT, second_run
from atrous.training.live import Live
from atrous.training.recipe import Recipe, changed_recipe
from atrous.weights import ModelCard, read_card


class RunStage(Protocol):
    """Trains one stage in a folder."""

    def __call__(self, recipe: Recipe, *, out: Path, resume: bool, start: Path | None) -> Scores: ...


def run_stages(recipe: Recipe, out: Path, resume: bool, run: RunStage) -> Scores:
    """Runs a recipe's stages: the last in `out` itself, the earlier ones in `out/stage-0`, `out/stage-1` and so on.

    With `resume`, a stage behind which another one has begun is not run again, and one that was interrupted goes on.

    Raises:
        AtrousError: what a stage raises.
    """
    stages = recipe.stage_recipes()
    folders = [*(out / f"stage-{index}" for index in range(len(stages) - 1)), out]
    begun = [index for index, folder in enumerate(folders) if (folder / CHECKPOINT).exists()]
    if begun and not resume:
        raise second_run(out)
    first = begun[-1] if begun else 0
    for index in range(first, len(stages)):
        stage, start = stages[index], folders[index - 1] if index else None
        if start is not None:  # whose weights replace all others
            stage = changed_recipe(stage, {"model.pretrained_backbone": None})
        rank_zero_only(Live().say)(f"stage {index} in {folders[index]}: {recipe.stages[index].name}")
        scores = run(stage, out=folders[index], resume=resume and index == first, start=start)
    return scores


def start_from(model: SegmentationModel, card: ModelCard, former: Path) -> ModelCard:
    """Fills a model with the last weights of a finished run; its card with what they go with.

    What the model has beside them, such as a step of the decoder that the former did not have, begins afresh.

    Raises:
        AtrousError: no run there, or one of another network.
    """
    state = torch.load(former / CHECKPOINT, weights_only=True, map_location="cpu")["state_dict"]
    weights = _below("average.module.", state) or _below("model.", state)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    other = {name: tensor.shape for name, tensor in weights.items()}
    for name in sorted(other):
        if shapes.get(name) != other[name]:
            raise RecipeError(
                f"{former}: its model has other weights at {name}: a stage keeps the model of the former, or adds to it"
            )
    model.load_state_dict({**model.state_dict(), **weights})
    theirs = read_card(former)[1]
    return replace(card, mean=theirs.mean, std=theirs.std)


def former_settings(former: Path) -> list[Any]:
    """The settings of the stages that led to a finished run, its own among them, the first one first."""
    provenance = read_card(former)[1].provenance
    return [*provenance.get("former_stages", []), provenance["settings"]]


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
