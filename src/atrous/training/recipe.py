"""Recipes: a training run as a YAML file, every key checked by name before a step runs."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atrous.errors import RecipeError
from atrous.models import list_models
from atrous.settings import find_recipe, parse_override
from atrous.training.losses import LossName

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

_LEAST_SCALE_STEP = 0.01


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRecipe(_Section):
    """Which network, and what it starts from."""

    name: str
    output_stride: Literal[8, 16, 32, 64, 128, 256] = 16  # what the architecture cannot do, it refuses
    options: dict[str, Any] = {}
    pretrained_backbone: str | None = None  # "imagenet", or a checkpoint of a classifier or of another DeepLab
    batch_norm_momentum: Share = 0.1
    # true: its statistics stay as they were loaded (v3, table 8: "BN"); all: its scale and shift too (v2's ResNet)
    fixed_batch_norm: bool | Literal["all"] = False

    @model_validator(mode="after")
    def _known(self) -> "ModelRecipe":
        if self.name not in list_models():
            raise ValueError(f"name: no architecture is called {self.name!r}; see `atrous models --architectures`")
        return self


class AugmentRecipe(_Section):
    """See `atrous.data.Augmentation`."""

    crop: tuple[Annotated[int, Field(ge=33)], Annotated[int, Field(ge=33)]] = (513, 513)
    scale: tuple[Positive, Positive] = (0.5, 2.0)
    scale_step: NotNegative = 0.0  # the released code's factors are .25 apart; 0 draws any
    flip: bool = True
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    gamma: Share = 0.0
    white_balance: Share = 0.0
    blur: Annotated[float, Field(ge=0, le=32)] = 0.0  # pixels
    noise: Share = 0.0
    class_crops: Share = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentRecipe":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: {self.scale[0]} is larger than {self.scale[1]}")
        if 0 < self.scale_step < _LEAST_SCALE_STEP:
            raise ValueError(f"scale_step: {self.scale_step:g}: give {_LEAST_SCALE_STEP} or more, or 0 for any factor")
        return self


class LossRecipe(_Section):
    """See `atrous.training.losses.Loss`; class weights are given, or made of the training split's histogram."""

    parts: dict[LossName, Positive] = {"cross_entropy": 1.0}
    class_weights: Literal["median_frequency", "bounded"] | tuple[NotNegative, ...] | None = None
    hardest: Annotated[float, Field(gt=0, le=1)] = 1.0
    gamma: NotNegative = 2.0

    @model_validator(mode="after")
    def _some_class_counts(self) -> "LossRecipe":
        if isinstance(self.class_weights, tuple) and not any(self.class_weights):
            raise ValueError("class_weights: all are 0, so that nothing is learnt: give a class that counts more")
        return self


class OptimizerRecipe(_Section):
    """SGD with momentum as in the papers, or AdamW.

    Biases, batch-norm values and depthwise kernels are not decayed (the released code decays no depthwise kernel).
    A parameter's learning rate is `lr` times every multiplier that is for it.
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.007
    momentum: Share = 0.9
    nesterov: bool = False  # of the papers' trainings, Xception's on ImageNet alone used it
    weight_decay: NotNegative = 4e-5
    backbone_multiplier: Positive = 1.0
    bias_multiplier: Positive = 1.0  # of convolutions' biases, not of batch norm's shift
    # By the start of parameters' names, e.g. {logits: 10}.
    multipliers: dict[str, Positive] = {}

    @model_validator(mode="after")
    def _momentum_to_look_ahead_with(self) -> "OptimizerRecipe":
        if self.nesterov and not (self.momentum and self.name == "sgd"):
            raise ValueError("nesterov: only for sgd with a momentum above 0")
        return self


class DistillRecipe(_Section):
    """How `atrous distill` learns from a teacher; see `atrous.training.distillation`. `atrous train` refuses it."""

    temperature: Positive = 1.0  # above 1 the teacher's second thoughts count for more
    confidence: NotNegative = 1.0  # a pixel counts by its teacher's largest probability to this power
    labelled: Annotated[float, Field(gt=0, lt=1)] = 0.5  # the share of samples and loss that --data has, if it is given
    held_out: Annotated[int, Field(ge=1)] = 100  # photos that judge the student, unless --data has a split that does


class ScheduleRecipe(_Section):
    """How long, and the learning rate's fall, behind a linear warm-up.

    The length is given in `epochs` or in `steps` of the optimiser, the papers' iterations. "poly" is
    lr · (1 - step / steps)^power (v2, section 4.1.1); "step" multiplies by `drop_factor` every `drop_every` steps (v1).
    """

    epochs: Annotated[int, Field(ge=1)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    policy: Literal["poly", "step"] = "poly"
    power: Positive = 0.9
    drop_every: Annotated[int, Field(ge=1)] = 2000
    drop_factor: Share = 0.1
    warmup_epochs: NotNegative = 0.0

    @model_validator(mode="after")
    def _one_length(self) -> "ScheduleRecipe":
        if (self.epochs is None) == (self.steps is None):
            both = "both epochs and steps" if self.epochs else "neither epochs nor steps"
            raise ValueError(f"{both}: give one of them, and null for the other")
        if self.warmup_epochs and not self.epochs:
            raise ValueError("warmup_epochs: only where the length is given in epochs")
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs:g} of {self.epochs} epochs leave none at full rate")
        return self

    def epochs_of(self, batches: int, accumulate: int = 1) -> int:
        """How many epochs are begun, each of so many batches, of which `accumulate` make a step."""
        return self.epochs or ceil((self.steps or 0) / ceil(batches / accumulate))


class StageRecipe(BaseModel):
    """One of several trainings that follow one another: a name, and changes of the recipe that it stands in."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str


class Recipe(_Section):
    """A whole training run, but for the data's place."""

    model: ModelRecipe
    augment: AugmentRecipe = AugmentRecipe()
    balanced_sampling: bool = False  # a class drawn evenly, then one of the photos that hold it
    loss: LossRecipe = LossRecipe()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe
    distill: DistillRecipe | None = None
    batch_size: Annotated[int, Field(ge=1)] = 16
    upsample_logits: bool = True  # False shrinks the labels to the logits, as before v3 (v3, section 4.1)
    accumulate: Annotated[int, Field(ge=1)] = 1  # batches whose gradients are added up before a step
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"  # auto: bf16 where the machine is quicker in it
    compile: bool = False  # torch.compile
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_split: str = "train"
    val_split: str = "val"
    # The size at which photos are judged, as a factor; the labels keep theirs.
    val_scale: Annotated[float, Field(gt=0, le=8)] = 1.0
    validate_every: Annotated[int, Field(ge=1)] = 1
    early_stop: Annotated[int, Field(ge=0)] = 0  # stops after so many validations without a better one; 0 never
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    licence: str = ""
    description: str = ""
    stages: tuple[StageRecipe, ...] = ()

    @model_validator(mode="after")
    def _possible_stages(self) -> "Recipe":
        self.stage_recipes()
        return self

    def stage_recipes(self) -> list["Recipe"]:
        """The recipe of each stage, changes applied; the recipe alone where it has no stages."""
        if not self.stages:
            return [self]
        base = self.model_dump(exclude={"stages"})
        recipes = []
        for index, stage in enumerate(self.stages):
            changes = stage.model_extra or {}
            if "stages" in changes:
                raise ValueError(f"stages.{index}.stages: a stage has none of its own")
            try:
                recipes.append(Recipe.model_validate(_merged(base, changes)))
            except ValidationError as error:
                raise ValueError(f"stages.{index}.{_first(error)}") from error
        return recipes


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe, a file or the name of one that Atrous comes with, and applies `overrides`, "optimizer.lr=0.01".

    Raises:
        RecipeError: no such file, an unknown key or an impossible value, each named.
    """
    path = find_recipe(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: no recipe there ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: not a recipe; it holds keys such as model, augment, optimizer, schedule")
    changes = dict(parse_override(override) for override in overrides or [])
    for key, value in changes.items():
        _change(values, key, value)
    return _validated(values, str(path))


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with other values at dotted keys, e.g. {"optimizer.lr": 0.01}, checked like one from a file.

    Raises:
        RecipeError: an unknown key or an impossible value.
    """
    values = {**recipe.model_dump(), "stages": [stage.model_dump() for stage in recipe.stages]}
    for key, value in changes.items():
        _change(values, key, value)
    return _validated(values, "changed recipe")


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    inner: dict[str, Any] | list[Any] = values
    for part in path:
        inner = inner[_index(inner, part, key)] if isinstance(inner, list) else inner.setdefault(part, {})
        if not isinstance(inner, dict | list):
            raise RecipeError(f"--set {key}: {part} holds a value, not further keys")
    if isinstance(inner, list):
        inner[_index(inner, last, key)] = value
    else:
        inner[last] = value


def _index(values: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(values):
        raise RecipeError(f"--set {key}: {part} is none of 0 to {len(values) - 1}")
    return int(part)


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with changes, mapping by mapping, but for the loss's parts: no share could take one of them out again."""
    merged = dict(values)
    for key, value in changes.items():
        own = merged.get(key)
        if key != "parts" and isinstance(own, Mapping) and isinstance(value, Mapping):
            value = _merged(own, value)
        merged[key] = value
    return merged


def _validated(values: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first(error)}") from error


def _first(error: ValidationError) -> str:
    """The first mistake, in one line: its key, what is wrong, and what was given."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return f"{where}: {message}{given}" if where else message
