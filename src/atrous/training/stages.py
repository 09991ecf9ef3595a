"""Recipes of several stages: a training after another, each from the last weights of the one before (v3, 4.1).

The papers go on from the last iterate, not from whichever was judged best; of a moving average, that is its last value.
"""

from collections.abc import Mapping, Sequence
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
from atrous.training.refusals import refuse_another_model
from atrous.training.resuming import read_progress, refuse_another_recipe
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
    if not resume:
        refuse_second_run(recipe, out)
    stages, folders = recipe.stage_recipes(), _folders(recipe, out)
    for index in range(1, len(stages)):  # the former's weights replace all others
        stages[index] = changed_recipe(stages[index], {"model.pretrained_backbone": None})
    first = _begun(stages, folders)
    for index in range(first, len(stages)):
        stage, start = stages[index], folders[index - 1] if index else None
        rank_zero_only(Live().say)(f"stage {index} in {folders[index]}: {recipe.stages[index].name}")
        scores = run(stage, out=folders[index], resume=resume and index == first, start=start)
    return scores


def refuse_second_run(recipe: Recipe, out: Path) -> None:
    """Raises RecipeError where a run has begun in `out`, in a stage of its own or without stages."""
    if any((folder / CHECKPOINT).exists() for folder in (out, _stage_folder(out, 0), *_folders(recipe, out))):
        raise second_run(out)


def refuse_stages_of_another_run(out: Path) -> None:
    """Raises RecipeError where a recipe without stages would go on with a run that has some."""
    if (_stage_folder(out, 0) / CHECKPOINT).exists():
        raise _other_stages(out)


def _begun(stages: Sequence[Recipe], folders: Sequence[Path]) -> int:
    """The last stage that has begun, or 0.

    Raises:
        RecipeError: a stage before it was another.
    """
    out = folders[-1]
    begun = [index for index, folder in enumerate(folders) if (folder / CHECKPOINT).exists()]
    last = begun[-1] if begun else 0
    # Of stages that are done, only the last one's checkpoint is needed still.
    if (last and last - 1 not in begun) or (_stage_folder(out, len(stages) - 1) / CHECKPOINT).exists():
        raise _other_stages(out)
    for index in begun[:-1]:
        checkpoint = folders[index] / CHECKPOINT
        progress = read_progress(checkpoint)
        try:
            refuse_another_recipe(checkpoint, progress, stages[index])
        except RecipeError as error:
            raise RecipeError(f"stages.{index}: {error}") from error
    return last


def _folders(recipe: Recipe, out: Path) -> list[Path]:
    """Where each stage runs."""
    return [*(_stage_folder(out, index) for index in range(len(recipe.stages) - 1)), out]


def _stage_folder(out: Path, index: int) -> Path:
    return out / f"stage-{index}"


def _other_stages(out: Path) -> RecipeError:
    return RecipeError(
        f"stages: the run in {out} began with others, or the checkpoint of the last one that is done has gone: give "
        "what it began with, or another --out"
    )


def start_from(model: SegmentationModel, card: ModelCard, former: Path) -> ModelCard:
    """Fills a model with the last weights of a finished run; its card with what they go with.

    What the model has beside them, such as a step of the decoder that the former did not have, begins afresh.

    Raises:
        AtrousError: no run there, or one of another network.
    """
    state = torch.load(former / CHECKPOINT, weights_only=True, map_location="cpu")["state_dict"]
    weights = _below("average.module.", state) or _below("model.", state)
    refuse_another_model(former, weights, model)
    model.load_state_dict({**model.state_dict(), **weights})
    theirs = read_card(former)[1]
    return replace(card, mean=theirs.mean, std=theirs.std)


def former_settings(former: Path) -> list[Any]:
    """The settings of the stages that led to a finished run, its own among them, the first one first."""
    provenance = read_card(former)[1].provenance
    return [*provenance.get("former_stages", []), provenance["settings"]]


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
