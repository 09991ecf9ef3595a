"""All that an evaluation has counted, and what it comes to."""

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atrous.errors import AtrousError
from atrous.evaluation.boundary import BoundaryIoU
from atrous.evaluation.calibration import Calibration
from atrous.evaluation.confusion import ConfusionMatrix, Scores, rounded
from atrous.evaluation.trimap import Trimap


@dataclass(frozen=True)
class Photo:
    """How one photo went.

    Attributes:
        miou: the mean IoU within it; None if nothing of it is judged.
        seconds: to predict it, without reading it.
    """

    path: Path
    miou: float | None
    seconds: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was counted over a split. Parts of it, from several processes or splits, go together with `merge`.

    Attributes:
        confusion: (truth, prediction) of every judged pixel.
        photos: in the order of the data set.
        trimap, boundary, calibration: where they were asked for.
        peak_memory: bytes: the most that the process (on a GPU: its tensors) has held so far.
    """

    confusion: ConfusionMatrix
    photos: tuple[Photo, ...] = ()
    trimap: Trimap | None = None
    boundary: BoundaryIoU | None = None
    calibration: Calibration | None = None
    peak_memory: int | None = None

    @property
    def scores(self) -> Scores:
        return self.confusion.scores()

    @property
    def miou(self) -> float:
        return self.scores.miou

    @property
    def pixel_accuracy(self) -> float:
        return self.scores.pixel_accuracy

    @property
    def iou(self) -> dict[str, float | None]:
        return self.scores.iou

    @property
    def seconds_per_photo(self) -> float:
        """The median, which the first photo's preparations do not move; without reading the photos."""
        return statistics.median(photo.seconds for photo in self.photos) if self.photos else 0.0

    def worst(self, count: int) -> list[Photo]:
        """The photos of the lowest mean IoU, the lowest first."""
        judged = [photo for photo in self.photos if photo.miou is not None]
        return sorted(judged, key=lambda photo: photo.miou or 0.0)[:count]

    def best(self, count: int) -> list[Photo]:
        """The photos of the highest mean IoU, the highest first."""
        return self.worst(len(self.photos))[::-1][:count]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the scores, those that were asked for besides, and the cost."""
        told: dict[str, Any] = self.scores.to_dict()
        if self.boundary:
            told["boundary_iou"] = {"mean": round(self.boundary.mean, 4), **rounded(self.boundary.iou)}
        if self.trimap:
            told["trimap"] = self.trimap.curve().to_dict()
        if self.calibration:
            told["calibration"] = self.calibration.reliability().to_dict()
        told["photos"] = len(self.photos)
        told["seconds_per_photo"] = round(self.seconds_per_photo, 4)
        told["peak_memory_mb"] = None if self.peak_memory is None else round(self.peak_memory / 1e6, 1)
        return told


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of all photos of several, which are left as they are.

    Raises:
        AtrousError: there are none, or they did not count the same things.
    """
    if not parts:
        raise AtrousError("nothing to merge: give at least one evaluation")
    whole = copy.deepcopy(parts[0])
    for part in parts[1:]:
        whole.confusion.merge(part.confusion)
        for name in ("trimap", "boundary", "calibration"):
            ours, theirs = getattr(whole, name), getattr(part, name)
            if (ours is None) != (theirs is None):
                raise AtrousError(f"one of the evaluations has no {name}: evaluate all parts with the same options")
            if ours is not None:
                ours.merge(theirs)
    memories = [part.peak_memory for part in parts if part.peak_memory is not None]
    photos = tuple(photo for part in parts for photo in part.photos)
    return replace(whole, photos=photos, peak_memory=max(memories, default=None))
