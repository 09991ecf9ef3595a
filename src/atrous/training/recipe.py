"""Recipes: a training run as a YAML file, every key checked by name before a step runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from atrous.errors import RecipeError
from atrous.models import list_models
from atrous.settings import parse_override
from atrous.training.losses import LossName

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRecipe(_Section):
    """Which network, and what it starts from."""

    name: str
    output_stride: Literal[8, 16, 32, 64, 128, 256] = 16  # what the architecture cannot do, it refuses
    options: dict[str, Any] = {}
    pretrained_backbone: str | None = None  # "imagenet", or a checkpoint of a classifier or of another DeepLab
    batch_norm_momentum: Share = 0.1
    fixed_batch_norm: bool = False  # its statistics stay as they were loaded (v3, table 8: "BN")

    @model_validator(mode="after")
    def _known(self) -> "ModelRecipe":
        if self.name not in list_models():
            raise ValueError(f"name: no architecture is called {self.name!r}; see `atrous models --architectures`")
        return self


class AugmentRecipe(_Section):
    """See `atrous.data.Augmentation`."""

    crop: tuple[Annotated[int, Field(ge=33)], Annotated[int, Field(ge=33)]] = (513, 513)
    scale: tuple[Positive, Positive] = (0.5, 2.0)
    flip: bool = True
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    gamma: Share = 0.0
    class_crops: Share = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentRecipe":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: {self.scale[0]} is larger than {self.scale[1]}")
        return self


class LossRecipe(_Section):
    """See `atrous.training.losses.Loss`; class weights are given, or made of the training split's histogram."""

    parts: dict[LossName, Positive] = {"cross_entropy": 1.0}
    class_weights: Literal["median_frequency", "bounded"] | tuple[Annotated[float, Field(ge=0)], ...] | None = None
    hardest: Annotated[float, Field(gt=0, le=1)] = 1.0
    gamma: Annotated[float, Field(ge=0)] = 2.0


class OptimizerRecipe(_Section):
    """SGD with Nesterov momentum as in the papers, or AdamW.

    Biases, batch-norm values and depthwise kernels are not decayed (the released code decays no depthwise kernel).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.007
    momentum: Share = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 4e-5
    backbone_multiplier: Positive = 1.0


class ScheduleRecipe(_Section):
    """Poly: lr · (1 - step / steps)^power (v2, section 4.1.1), behind a linear warm-up."""

    epochs: Annotated[int, Field(ge=1)]
    power: Positive = 0.9
    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0


class Recipe(_Section):
    """A whole training run, but for the data's place."""

    model: ModelRecipe
    augment: AugmentRecipe = AugmentRecipe()
    balanced_sampling: bool = False  # a class drawn evenly, then one of the photos that hold it
    loss: LossRecipe = LossRecipe()
    optimizer: OptimizerRecipe = OptimizerRecipe()
    schedule: ScheduleRecipe
    batch_size: Annotated[int, Field(ge=1)] = 16
    upsample_logits: bool = True  # False shrinks the labels to the logits, as before v3 (v3, section 4.1)
    precision: Literal["fp32", "bf16"] = "fp32"
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train_split: str = "train"
    val_split: str = "val"
    val_scale: Positive = 1.0  # the size at which photos are judged, as a factor; the labels keep theirs
    validate_every: Annotated[int, Field(ge=1)] = 1
    seed: int = 0
    licence: str = ""
    description: str = ""


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe and applies `overrides` of the form "optimizer.lr=0.01".

    Raises:
        RecipeError: no such file, an unknown key or an impossible value, each named.
    """
    path = Path(path)
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
    values = recipe.model_dump()
    for key, value in changes.items():
        _change(values, key, value)
    return _validated(values, "changed recipe")


def _change(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {key}: {part} holds a value, not further keys")
    values[last] = value


def _validated(values: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{source}: {where}: {message}" + (f" (got {first['input']!r})" if where else "")) from error
