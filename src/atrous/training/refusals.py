"""What a recipe asks for that cannot be, and what is only odd: told before a step runs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import ceil

import torch
from torch import Tensor

from atrous.data import Classes, SegmentationDataset
from atrous.errors import AtrousError, RecipeError
from atrous.models import SegmentationModel, backbone_of, create_model, describe
from atrous.models.describe import Layer
from atrous.training.optimizer import paces
from atrous.training.parallel import Processes
from atrous.training.precision import lightning_precision
from atrous.training.recipe import Recipe


def refuse_impossible(recipe: Recipe, splits: Sequence[str] = ()) -> None:
    """Refuses what would fail later, or train nothing, in any stage.

    Args:
        splits: those of the data set; none leaves them unchecked.

    Raises:
        RecipeError: it names the key, in a stage with the stage's own.
    """
    former: SegmentationModel | None = None
    for index, stage in enumerate(recipe.stage_recipes()):
        with _naming_stage(recipe, index):
            model = _skeleton(stage)
            _refuse(stage, model, splits, starts=former is None)
            if former is not None:
                refuse_another_model("model", former.state_dict(), model)
        former = model


def refuse_unfit(recipe: Recipe, place: torch.device, processes: Processes, strategy: str) -> None:
    """Refuses what a machine cannot train, in any stage.

    Raises:
        RecipeError: as above.
    """
    for index, stage in enumerate(recipe.stage_recipes()):
        with _naming_stage(recipe, index):
            processes.check(stage)
            lightning_precision(place, stage, strategy)


def refuse_weights(recipe: Recipe, classes: Classes) -> None:
    """Refuses class weights that are listed and are not one for each class, in any stage.

    Raises:
        RecipeError: as above.
    """
    names = classes.names
    for index, stage in enumerate(recipe.stage_recipes()):
        weights = stage.loss.class_weights
        with _naming_stage(recipe, index):
            if isinstance(weights, tuple) and len(weights) != len(names):
                numbers = f"{len(weights)} numbers for the {len(names)} classes {_listed(names)}"
                raise RecipeError(f"loss.class_weights: {numbers}")


def refuse_another_model(source: object, former: Mapping[str, Tensor], model: SegmentationModel) -> None:
    """Raises RecipeError where a model cannot begin with the weights of the stage before it."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in sorted(former):
        if shapes.get(name) != former[name].shape:
            raise RecipeError(
                f"{source}: the former stage's has other weights at {name}: a stage keeps the model of the former, or "
                "adds to it"
            )


@contextmanager
def _naming_stage(recipe: Recipe, index: int) -> Iterator[None]:
    """What is refused within is told with the stage's key, where there are stages."""
    try:
        yield
    except AtrousError as error:
        where = f"stages.{index}: " if recipe.stages else ""
        raise RecipeError(f"{where}{error}") from error


def refuse_one_class(dataset: SegmentationDataset) -> None:
    """A single class is right everywhere before training begins.

    Raises:
        RecipeError: the data set has fewer than two.
    """
    names = dataset.classes.names
    if len(names) < 2:
        raise RecipeError(
            f"{dataset.root}: has one class, {names[0]!r}: name what lies around it as well, e.g. background, or there "
            "is nothing to tell apart"
        )


def refuse_void(dataset: SegmentationDataset) -> None:
    """Without a labelled pixel there is nothing to learn, or to judge, by.

    Raises:
        RecipeError: the split has none.
        AtrousError: a mask that cannot be read.
    """
    ignored = dataset.classes.ignore_index
    if not any((dataset.mask(index) != ignored).any() for index in range(len(dataset))):
        raise RecipeError(f"{dataset.root}: all pixels of {dataset.split} are void ({ignored})")


def refuse_unreadable(dataset: SegmentationDataset) -> None:
    """Reads what judges a run, so that what is wrong with it is told now and not at the first validation.

    Raises:
        AtrousError: a photo or mask that cannot be read, or does not fit.
    """

    def read(index: int) -> None:
        _ = dataset[index]

    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="atrous-val") as pool:
        list(pool.map(read, range(len(dataset))))


def oddities(recipe: Recipe) -> list[str]:
    """What is possible, but perhaps not meant: a line each.

    The papers' own recipes may have some: at half of its scales v2 runs a rate of 24 on maps of 21 positions.
    """
    found = []
    for index, stage in enumerate(recipe.stage_recipes()):
        where = f"stages.{index}: " if recipe.stages else ""
        model = _skeleton(stage)
        height, width = stage.augment.crop
        stride = model.output_stride
        if stride > model.default_output_stride:  # the default, 16, is not every architecture's own
            found.append(
                f"{where}model.output_stride: {stride}, where {stage.model.name} was published at "
                f"{model.default_output_stride}"
            )
        if model.extra_pixels and ((height - 1) % stride or (width - 1) % stride):
            nearest = [round((side - 1) / stride) * stride + 1 for side in (height, width)]
            found.append(
                f"{where}augment.crop: {height}×{width} is not k·{stride} + 1, so that corners of logits and labels "
                f"lie apart; {nearest[0]}×{nearest[1]} is"
            )
        if outside := [layer for layer in _atrous(model, stage) if _outside(layer)]:
            rates = sorted({layer.rate for layer in outside})
            maps = sorted({layer.size for layer in outside})
            found.append(
                f"{where}augment.crop: at rate {_listed(rates)} a 3×3 kernel on maps of {_maps(maps)} sees its own "
                f"position alone (v3, figure 4); crops of {_crop_for(max(rates), model, stage)} would do"
            )
        if stage.model.fixed_batch_norm and not stage.model.pretrained_backbone and index == 0:
            found.append(f"{where}model.fixed_batch_norm: the statistics of a network that has seen nothing are fixed")
    return found


def _refuse(recipe: Recipe, model: SegmentationModel, splits: Sequence[str], starts: bool) -> None:
    settings = recipe.model
    for key, split in (("train_split", recipe.train_split), ("val_split", recipe.val_split)):
        if splits and split not in splits:
            raise RecipeError(f"{key}: the data set has no split {split!r}; it has {', '.join(splits)}")
    paces(model, recipe.optimizer)
    backbone = backbone_of(settings.name)
    if starts and settings.pretrained_backbone == "imagenet" and "efficientnet_lite" not in backbone:
        raise RecipeError(
            f"model.pretrained_backbone: no package carries the ImageNet weights of {backbone}: give a checkpoint, "
            "--set model.pretrained_backbone=FILE, or null to start from random weights"
        )
    head = [layer for layer in _atrous(model, recipe) if not layer.name.startswith("backbone.")]
    if head and all(_outside(layer) for layer in head):
        least = min(layer.rate for layer in head)
        raise RecipeError(
            f"augment.crop: {recipe.augment.crop[0]}×{recipe.augment.crop[1]} makes maps of "
            f"{_maps(sorted({layer.size for layer in head}))}, on which kernels at rates from {least} up see their own "
            f"position alone; crops of {_crop_for(least, model, recipe)} are the least, and "
            f"{_crop_for(max(layer.rate for layer in head), model, recipe)} do for every rate"
        )


def _skeleton(recipe: Recipe) -> SegmentationModel:
    """The model without memory for its weights.

    Raises:
        RecipeError: the architecture does not take the options or the output stride.
    """
    settings = recipe.model
    try:
        with torch.device("meta"):
            return create_model(settings.name, 2, settings.output_stride, **settings.options)
    except AtrousError as error:
        raise RecipeError(f"model: {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:  # a value that is none for the option
        raise RecipeError(f"model.options: {error}") from error


def _atrous(model: SegmentationModel, recipe: Recipe) -> list[Layer]:
    return [layer for layer in describe(model, recipe.augment.crop).layers if layer.kernel_size > 1 and layer.rate > 1]


def _outside(layer: Layer) -> bool:
    """Whether every tap but the middle one always meets the padding."""
    return layer.rate * (layer.kernel_size // 2) >= max(layer.size) and layer.kernel_size % 2 == 1


def _crop_for(rate: int, model: SegmentationModel, recipe: Recipe) -> int:
    """The side of a crop on whose map, at the smallest of the model's scales, a rate reaches another position."""
    scale = min(recipe.model.options.get("multi_scale") or (1.0,))
    return ceil(rate / scale) * model.output_stride + 1


def _maps(sizes: Sequence[tuple[int, int]]) -> str:
    return _listed([f"{height}×{width}" for height, width in sizes])


def _listed(values: Sequence[object]) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last
