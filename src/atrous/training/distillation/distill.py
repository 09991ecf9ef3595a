"""From a teacher and a folder of photos to a student."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.data import CachedDataset, Classes, SegmentationDataset, find_images, list_splits, open_dataset
from atrous.data.balance import count_pixels, sampling_weights
from atrous.errors import DataError, RecipeError
from atrous.evaluation import Evaluation
from atrous.inference import Predictor, load
from atrous.inference.devices import choose_device
from atrous.models import SegmentationModel
from atrous.training.distillation.agreement import Agreement, agreement
from atrous.training.distillation.pupil import Pupil
from atrous.training.distillation.soft_crops import SoftCrops
from atrous.training.distillation.teacher import TaughtPhotos, teach
from atrous.training.lesson import Lesson
from atrous.training.module import Trainee
from atrous.training.parallel import Processes
from atrous.training.provenance import origin
from atrous.training.recipe import DistillRecipe, Recipe
from atrous.training.refusals import refuse_impossible, refuse_unfit, refuse_weights
from atrous.training.starting import make_loss, make_model, training_crops
from atrous.training.train import train
from atrous.weights import ModelCard, read_card


@dataclass(frozen=True, kw_only=True)
class SoftLesson(Lesson):
    """Photos that a teacher labelled, and a labelled data set beside them.

    Attributes:
        taught: what `train` holds, with the files of the probabilities.
        labelled: the data set's training split.
        teacher: what the saved model says of its teacher.
        held_out: whether the judging photos are the teacher's, too.
    """

    taught: TaughtPhotos
    labelled: SegmentationDataset | None
    teacher: dict[str, Any]
    held_out: bool

    def trainee(self, model: SegmentationModel, recipe: Recipe) -> Pupil:
        settings = _settings(recipe)
        share = settings.labelled if self.labelled else 0.0
        criterion = make_loss(recipe, self.labelled or self.train)
        return Pupil(model, recipe, self._ignored, criterion, settings.temperature, share)

    def samples(self, trainee: Trainee, card: ModelCard) -> SoftCrops:
        recipe = trainee.recipe
        taught = training_crops(CachedDataset(self.train), recipe, card, self._ignored)
        labelled = training_crops(CachedDataset(self.labelled), recipe, card, self._ignored) if self.labelled else None
        return SoftCrops(taught, self.taught.soft, _settings(recipe), trainee.model.align_corners, labelled)

    def shares(self, recipe: Recipe) -> NDArray[np.float64] | None:
        taught = _shares(self.train, recipe)
        if self.labelled is None:
            return taught if recipe.balanced_sampling else None
        part = _settings(recipe).labelled
        return np.concatenate([(1 - part) * taught, part * _shares(self.labelled, recipe)])

    def fingerprints(self) -> dict[str, str]:
        found = {"--photos: what the teacher labelled, or its labels,": self.train.fingerprint()}
        if self.held_out:
            found["--photos: what is held out to judge the student, or its labels,"] = self.val.fingerprint()
        both = (self.labelled, None if self.held_out else self.val)
        return found | {f"--data: photos or masks of {each.split}": each.fingerprint() for each in both if each}

    def origin(self, recipe: Recipe) -> dict[str, Any]:
        photos = f"{len(self.train)} photos of {self.train.root.name}, labelled by {self.teacher['name']}"
        if self.labelled:
            photos += f"; {self.labelled.root.name} {self.labelled.split} ({len(self.labelled)} photos)"
        return {**origin(recipe, self.train.root, len(self.train)), "trained_on": photos, "teacher": self.teacher}

    def findings(self, evaluation: Evaluation) -> dict[str, Any]:
        return {"agreement": agreement(evaluation).to_dict()}

    @property
    def _ignored(self) -> int:
        return (self.labelled or self.train).classes.ignore_index


def soft_lesson(
    recipe: Recipe,
    teacher: str | Path,
    photos: str | Path,
    folder: str | Path,
    *,
    data: str | Path | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> SoftLesson:
    """Has a teacher label photos, as far as it has not yet.

    Args:
        recipe: its section `distill` says how the labels are taken; without one the defaults hold.
        teacher: whatever `atrous.load` takes.
        photos: a folder of photos. Some of them, drawn by the seed, are held out to judge the student.
        folder: where the labels are kept.
        data: a labelled data set of the teacher's classes, mixed in; with the recipe's validation split it judges.
        scales, flip: how the teacher sees each photo.
        progress: called with (done, total) after each photo that the teacher has labelled.

    Raises:
        AtrousError: the recipe, the teacher, the photos or the data is not as it should be.
    """
    settings, stages = _settings(recipe), recipe.stage_recipes()
    for index, stage in enumerate(stages):
        if _settings(stage).held_out != settings.held_out:
            raise RecipeError(
                f"stages.{index}.distill.held_out: the photos are drawn once, for all stages: give it there"
            )
    refuse_impossible(recipe)  # and whatever else is refused before the minutes that a teacher may take
    predictor = load(teacher, device)
    labelled, judges = _labelled(recipe, data, predictor)
    classes = Classes(predictor.card.classes, predictor.card.palette)
    refuse_unfit(recipe, choose_device(device), Processes(), "auto")
    refuse_weights(recipe, classes)
    make_model(stages[0], classes)
    files = find_images(photos)
    held_out = 0 if judges else settings.held_out
    if len(files) <= held_out:
        raise DataError(f"{photos}: {len(files)} photos, of which {held_out} are held out: lower distill.held_out")
    order = np.random.default_rng(recipe.seed).permutation(len(files)).tolist()
    taught = teach(predictor, files, folder, scales=scales, flip=flip, progress=progress)
    held, rest = (_chosen(taught, sorted(part)) for part in (order[:held_out], order[held_out:]))
    root = Path(photos)
    return SoftLesson(
        train=rest.dataset(root, "taught"),
        val=judges or held.dataset(root, "held out"),
        taught=rest,
        labelled=labelled,
        teacher={**_described(teacher, predictor), "scales": list(scales), "flip": flip},
        held_out=judges is None,
    )


def distill(
    recipe: Recipe,
    lesson: SoftLesson,
    out: str | Path,
    *,
    resume: bool = False,
    recipe_name: str = "",
    workers: int = 1,
    device: str = "auto",
) -> Agreement:
    """Trains a student; what is not said here is as for `train`.

    Returns:
        What the kept student says of the photos that judged it, as its card has it, with four decimals.

    Raises:
        AtrousError: the recipe or the place to resume from is not as it should be.
    """
    train(recipe, lesson, out, resume=resume, recipe_name=recipe_name, workers=workers, device=device)
    return Agreement(**read_card(out)[1].provenance["agreement"])


def _labelled(
    recipe: Recipe, data: str | Path | None, teacher: Predictor
) -> tuple[SegmentationDataset | None, SegmentationDataset | None]:
    """The labelled training split, and the one that judges."""
    if data is None:
        return None, None
    labelled = open_dataset(data, recipe.train_split)
    if labelled.classes.names != teacher.classes:
        known, given = ", ".join(teacher.classes), ", ".join(labelled.classes.names)
        raise DataError(f"{data}: its classes ({given}) are not the teacher's ({known})")
    return labelled, open_dataset(data, recipe.val_split) if recipe.val_split in list_splits(data) else None


def _chosen(photos: TaughtPhotos, indices: Sequence[int]) -> TaughtPhotos:
    images, labels, soft = (
        tuple(files[index] for index in indices) for files in (photos.images, photos.labels, photos.soft)
    )
    return TaughtPhotos(images, labels, soft, photos.classes)


def _described(teacher: str | Path, predictor: Predictor) -> dict[str, Any]:
    card = predictor.card
    return {
        "name": Path(teacher).name,
        "model": predictor.model.config["name"],
        "licence": card.licence,
        **{key: card.provenance[key] for key in ("source", "url", "sha256") if key in card.provenance},
    }


def _settings(recipe: Recipe) -> DistillRecipe:
    return recipe.distill or DistillRecipe()


def _shares(dataset: SegmentationDataset, recipe: Recipe) -> NDArray[np.float64]:
    if recipe.balanced_sampling:
        return sampling_weights(count_pixels(dataset))
    return np.full(len(dataset), 1 / len(dataset))
