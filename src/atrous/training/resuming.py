"""What a stopped run left to go on from, and whether it is the same run that goes on."""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from atrous.errors import RecipeError
from atrous.training.recipe import Recipe

# What may change from one part of a run to the next: words, and what a machine or a person decides anew.
_FREE = {"description", "licence", "compile", "precision", "early_stop", "validate_every"}


def read_progress(checkpoint: Path) -> dict[str, Any]:
    """What `Keeper.state_dict` left in a checkpoint.

    Raises:
        RecipeError: the file is not whole.
    """
    try:
        state = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
        kept: dict[str, Any] = state["callbacks"]["Keeper"]
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise RecipeError(
            f"{checkpoint}: is damaged or no checkpoint: put a whole one there, or begin again in another --out"
        ) from error
    return kept


def refuse_another_run(
    checkpoint: Path, kept: Mapping[str, Any], recipe: Recipe, classes: tuple[str, ...], photos: Mapping[str, str]
) -> None:
    """Refuses to go on with another recipe, other classes or other photos than those the run began with.

    Args:
        photos: as `Lesson.fingerprints` gives them.

    Raises:
        RecipeError: it names the key or the option.
    """
    refuse_another_recipe(checkpoint, kept, recipe)
    if tuple(kept.get("classes", classes)) != classes:
        raise RecipeError(f"--data: its classes are not those of the run in {checkpoint.parent}: give another --out")
    begun = kept.get("photos", photos)  # of a version that did not keep them
    for what in sorted(begun.keys() | photos.keys()):
        if begun.get(what) != photos.get(what):
            raise RecipeError(
                f"{what} are not those that the run in {checkpoint.parent} began with: give those, or another --out"
            )


def refuse_another_recipe(checkpoint: Path, kept: Mapping[str, Any], recipe: Recipe) -> None:
    """Raises RecipeError, which names the key, where a recipe is not the one that a run began with."""
    if "settings" not in kept:  # of a version that did not keep them
        return
    try:
        first = Recipe.model_validate(kept["settings"])  # keys that came since then have their defaults
    except ValidationError as error:
        raise RecipeError(
            f"{checkpoint}: is of a version of Atrous whose recipes had other keys: go on with that one, or begin "
            "again in another --out"
        ) from error
    begun, now = dict(_keys(first.model_dump())), dict(_keys(recipe.model_dump()))
    for key in sorted(begun.keys() | now.keys()):
        if key.split(".")[0] not in _FREE and begun.get(key) != now.get(key):
            raise RecipeError(
                f"{key}: {now.get(key)}, but the run in {checkpoint.parent} began with {begun.get(key)}: "
                "give what it began with, or another --out"
            )


def _keys(values: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Every value as JSON, by its dotted key."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _keys(value, f"{above}.{key}" if above else str(key))
    else:
        yield above, json.dumps(values)
