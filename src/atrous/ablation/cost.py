"""What a plan will take, from a few real steps and a few real photos on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch.utils.data import default_collate

from atrous.ablation.experiment import Judgement
from atrous.ablation.plan import Plan, Run
from atrous.ablation.running import Judge, is_trained, judged_by_training, pending
from atrous.data import SegmentationDataset, open_dataset, read_image
from atrous.inference.devices import choose_device
from atrous.models import Description, create_model, describe
from atrous.training import Trainee, changed_recipe, make_model, make_optimizer, training_crops
from atrous.training.precision import precision_on

MEASURED_STEPS = 2
MEASURING_SECONDS = 45.0  # for steps, and as many for photos; what is left then is reckoned by its multiply-adds
TRAINING_PASSES = 3  # forward, and backward to the features and to the weights


Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Item:
    """Trainings, or judgings of a whole split, that cost alike.

    Attributes:
        what: a row that is one of them.
        count: how many of them are still to be done.
        seconds, multiply_adds: of one of them.
        measured: or reckoned from the multiply-adds at the speed of what was measured.
    """

    what: str
    count: int
    seconds: float
    multiply_adds: float
    measured: bool


@dataclass(frozen=True)
class Estimate:
    """What is still to be done. `disk` is of the models that will be kept, in bytes."""

    trainings: tuple[Item, ...]
    judgings: tuple[Item, ...]
    disk: int

    @property
    def seconds(self) -> float:
        return sum(item.count * item.seconds for item in (*self.trainings, *self.judgings))

    @property
    def multiply_adds(self) -> float:
        return sum(item.count * item.multiply_adds for item in (*self.trainings, *self.judgings))


def estimate(
    plan: Plan,
    data: str | Path,
    out: str | Path,
    *,
    device: str = "auto",
    measuring: Callable[[str], None] = lambda _: None,
) -> Estimate:
    """Measures a few training steps of each recipe and a photo in each way of judging; what is done costs nothing.

    Args:
        measuring: told what is measured next.

    Raises:
        AtrousError: as `run_plan`, before anything is written.
    """
    missing = pending(plan, data, out)
    if not missing:
        return Estimate((), (), 0)
    recipe = missing[0].recipe
    train, val = open_dataset(data, recipe.train_split), open_dataset(data, recipe.val_split)
    shared = _grouped([(run.training, run) for run in missing if not is_trained(out, run)])
    untrained = [same[0] for same in shared]

    trainings, parameters, steps = [], 0, _Stopwatch(measuring)
    for same in _grouped([(_seedless(run), run) for run in untrained]):
        run = same[0]
        described = _describe(run, run.recipe.augment.crop, None)
        batches = -(-len(train) // run.recipe.batch_size)
        count = run.recipe.schedule.epochs_of(batches) * batches
        work = TRAINING_PASSES * described.multiply_adds * run.recipe.batch_size * count
        trainings.append(steps.item(run.row.slug, len(same), work, partial(_step, run, train, device), count))
        parameters += described.parameters * len(same)

    # Training judges twice: at its end, and what was stored.
    wanted = [(run, Judgement()) for run in untrained for _ in range(2)]
    wanted += [(run, run.row.judgement) for run in missing if not judged_by_training(run)]
    judgings, photos = [], _Stopwatch(measuring)
    size = read_image(val.images[0]).shape
    for alike in _grouped([((_seedless(run), judgement), (run, judgement)) for run, judgement in wanted]):
        run, judgement = alike[0]
        area = sum((scale * run.recipe.val_scale) ** 2 for scale in judgement.scales) * (1 + judgement.flip)
        operations = _describe(run, size[:2], judgement.output_stride).multiply_adds * area * len(val)
        measure = partial(_photo, run, judgement, val, device)
        judgings.append(photos.item(run.row.slug, len(alike), operations, measure, len(val)))
    return Estimate(tuple(trainings), tuple(judgings), 2 * parameters)


class _Stopwatch:
    """Makes items: measured as long as there is time, then reckoned at the speed of those that were."""

    def __init__(self, measuring: Callable[[str], None]) -> None:
        self._measuring = measuring
        self._left = MEASURING_SECONDS
        self._seconds = self._work = 0.0  # of all that was measured

    def item(self, what: str, count: int, work: float, measure: Callable[[], float], times: int) -> Item:
        measured = self._left > 0
        if not measured:
            return Item(what, count, work * self._seconds / self._work, work, measured)
        self._measuring(what)
        started = time.monotonic()
        seconds = measure() * times
        self._left -= time.monotonic() - started
        self._seconds += seconds
        self._work += work
        return Item(what, count, seconds, work, measured)


def _grouped(pairs: list[tuple[Key, Value]]) -> list[list[Value]]:
    groups: dict[Key, list[Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return list(groups.values())


def _seedless(run: Run) -> str:
    return Run(run.row, 0, changed_recipe(run.recipe, {"seed": 0})).training


def _describe(run: Run, size: tuple[int, ...], output_stride: int | None) -> Description:
    model = run.recipe.model
    with torch.device("meta"):
        made = create_model(model.name, 21, output_stride or model.output_stride, **model.options)
    return describe(made, (size[0], size[1]))


def _step(run: Run, dataset: SegmentationDataset, device: str) -> float:
    """Seconds of one training step, its samples' preparation included."""
    recipe, place = run.recipe, choose_device(device)
    model, card = make_model(recipe, dataset.classes)
    trainee = Trainee(model, recipe, dataset.classes.ignore_index).to(place)
    trainee.train()
    trainee.on_train_epoch_start()
    optimizer = make_optimizer(model, recipe.optimizer)
    pairs = [dataset[index % len(dataset)] for index in range(recipe.batch_size)]
    samples = training_crops(pairs, recipe, card, dataset.classes.ignore_index)
    started = 0.0
    for step in range(1 + MEASURED_STEPS):
        if step == 1:  # the first prepares memory and kernels
            started = time.monotonic()
        images, labels = default_collate([samples[index] for index in range(len(samples))])
        with torch.autocast(place.type, torch.bfloat16, enabled=precision_on(place, recipe) == "bf16"):
            loss = trainee.loss(images.to(place), labels.to(place))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # waits for the device
    return (time.monotonic() - started) / MEASURED_STEPS


def _photo(run: Run, judgement: Judgement, dataset: SegmentationDataset, device: str) -> float:
    """Seconds to predict one photo, by an untrained model."""
    judge = Judge(*make_model(run.recipe, dataset.classes), run.recipe, judgement, device)
    judge.predict(dataset.images[0])
    started = time.monotonic()
    judge.predict(dataset.images[0])
    return time.monotonic() - started
