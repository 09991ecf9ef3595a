"""From an experiment to runs: a recipe for each row and seed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch

from atrous.ablation.experiment import Experiment, Row, Times
from atrous.backbones import BACKBONES
from atrous.errors import AtrousError
from atrous.models import backbone_of, create_model
from atrous.training import Recipe, changed_recipe


@dataclass(frozen=True)
class Run:
    """One row, trained from one seed."""

    row: Row
    seed: int
    recipe: Recipe

    @property
    def settings(self) -> dict[str, Any]:
        """What sets the training apart: what is not as a recipe has it by default."""
        return self.recipe.model_dump(mode="json", exclude_defaults=True)

    @property
    def training(self) -> str:
        """A name for the training: runs that differ only in how they are judged have the same."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Plan:
    """All runs of an experiment, one seed after another, so that a whole table is there early.

    Attributes:
        left_out: the rows that this backbone has not got, and why.
    """

    experiment: Experiment
    backbone: str
    runs: tuple[Run, ...]
    left_out: Mapping[str, str]


def make_plan(
    experiment: Experiment,
    recipe: Recipe | None = None,
    *,
    backbone: str | None = None,
    changes: Mapping[str, Any] | None = None,
    seeds: int = 3,
    only: Sequence[str] = (),
) -> Plan:
    """Plans an experiment.

    The last epoch's weights are the ones that are judged, never the best epoch's, which would choose by the scores
    that are compared.

    Args:
        recipe: everything but the architecture and the rows' own changes; None takes the paper's.
        backbone: None takes the recipe's, or without one the paper's.
        changes: of the recipe, at dotted keys; a row's own come after them.
        seeds: how many: the recipe's, and those that follow it.
        only: patterns of rows' slugs, e.g. "block4-*"; none takes all rows.

    Raises:
        AtrousError: a backbone without the idea, a pattern without a row, or no row that can be run.
        RecipeError: an impossible change.
    """
    if seeds < 1:
        raise AtrousError(f"seeds={seeds}: give 1 or more")
    backbone = backbone or (backbone_of(recipe.model.name) if recipe else experiment.backbone)
    base = _base(experiment, recipe, backbone, changes or {})
    rows = _chosen(experiment, only)
    recipes: dict[str, Recipe] = {}
    left_out = {}
    for row in rows:
        try:
            recipes[row.slug] = _possible(_changed(base, row.changes), experiment.implied, row.judgement.output_stride)
        except AtrousError as error:
            left_out[row.slug] = str(error)
    if not recipes:
        raise AtrousError(f"{experiment.name}: no row can be run on {backbone}: {next(iter(left_out.values()))}")
    runs = tuple(
        Run(row, seed, changed_recipe(recipes[row.slug], {"seed": seed}))
        for seed in range(base.seed, base.seed + seeds)
        for row in rows
        if row.slug in recipes
    )
    return Plan(experiment, backbone, runs, left_out)


def _base(experiment: Experiment, recipe: Recipe | None, backbone: str, changes: Mapping[str, Any]) -> Recipe:
    """What the rows have in common."""
    name = experiment.architecture(backbone)
    if name is None:
        able = [known for known in BACKBONES if experiment.architecture(known)]
        raise AtrousError(f"{experiment.name} cannot be run on backbone {backbone!r}; it can on {', '.join(able)}")
    if recipe is None:
        smallest = {"model": {"name": name}, "schedule": {"epochs": 1}}
        recipe = changed_recipe(Recipe.model_validate(smallest), experiment.recipe)
    # Options are another architecture's; what the user sets comes after.
    changed = _changed(recipe, {"model.name": name, "model.options": {}})
    changed = _changed(changed, {**changes, **experiment.changes})
    if changed.stages or changed.schedule.epochs is None:
        raise AtrousError(f"{experiment.name}: an ablation takes a recipe of schedule.epochs, without stages")
    return _changed(changed, {"validate_every": changed.schedule.epochs})


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    return changed_recipe(recipe, {key: _value(recipe, key, value) for key, value in changes.items()})


def _value(recipe: Recipe, key: str, value: Any) -> Any:
    if not isinstance(value, Times):
        return value
    own: Any = recipe
    for part in key.split("."):
        own = getattr(own, part)
    return value.of(own)


def _possible(recipe: Recipe, implied: Mapping[str, Any], judged_at: int | None) -> Recipe:
    """The recipe, without implied options if the architecture does not take them.

    Raises:
        AtrousError: the architecture does not take the others either, or not the output strides.
    """
    model = recipe.model
    plain = {key: value for key, value in model.options.items() if implied.get(key) != value}
    try:
        _try(model.name, model.output_stride, model.options, judged_at)
    except AtrousError:
        if plain == model.options:
            raise
        _try(model.name, model.output_stride, plain, judged_at)
        return changed_recipe(recipe, {"model.options": plain})
    return recipe


def _try(name: str, output_stride: int, options: Mapping[str, Any], judged_at: int | None) -> None:
    with torch.device("meta"):
        model = create_model(name, 2, output_stride, **options)
    if judged_at is not None:
        model.set_output_stride(judged_at)


def _chosen(experiment: Experiment, only: Sequence[str]) -> list[Row]:
    for pattern in only:
        if not any(fnmatch(row.slug, pattern) for row in experiment.rows):
            raise AtrousError(
                f"--only {pattern}: no such row in {experiment.name}; there are "
                + ", ".join(row.slug for row in experiment.rows)
            )
    return [row for row in experiment.rows if not only or any(fnmatch(row.slug, pattern) for pattern in only)]
