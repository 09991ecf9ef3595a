"""Scores in narrow bands around the objects' outlines (v1, section 5.2 "Mean pixel IOU along object boundaries")."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.evaluation.confusion import Counts, Labels, scores_of

Outline: TypeAlias = Literal["void", "edges"]

WIDTHS = tuple(range(1, 41))  # pixels
_DIRECT = 0.1  # above this share of direct changes, the classes are not outlined by void


@dataclass(frozen=True)
class TrimapCurve:
    """The scores within each width.

    Attributes:
        around: "void": the pixels at most so far from void, which is how VOC outlines its objects and the papers
            measure; "edges": the pixels at most so far from another label, for data without such an outline. The two
            are not comparable.
        widths: in pixels, 1 to 40.
        miou, pixel_accuracy: at each width, over everything within it.
    """

    around: Outline
    widths: tuple[int, ...]
    miou: tuple[float, ...]
    pixel_accuracy: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "around": self.around,
            "widths": list(self.widths),
            "miou": [round(value, 4) for value in self.miou],
            "pixel_accuracy": [round(value, 4) for value in self.pixel_accuracy],
        }


class Trimap:
    """Counts of (truth, prediction) at each distance from the outlines.

    Distances are the larger of those along rows and columns: a pixel within w of void is one that void dilated by a
    (2w + 1)² square covers, as `MyVOCevalsegBoundary.m`, released with v1, has it. Void itself is not judged.

    Args:
        around: what the bands lie around; "auto" counts for both and chooses when asked for the curve: "void" if at
            most a tenth of the places where the label changes have no void between two classes.
    """

    def __init__(
        self, classes: tuple[str, ...], ignore_index: int = 255, around: Literal["auto", "void", "edges"] = "auto"
    ) -> None:
        self.classes, self.ignore_index, self.asked = classes, ignore_index, around
        kinds: tuple[Outline, ...] = ("void", "edges") if around == "auto" else (around,)
        size = (len(WIDTHS), len(classes), len(classes))
        self._counts: dict[Outline, Counts] = {kind: np.zeros(size, np.int64) for kind in kinds}
        self._direct = self._changes = 0

    def add(self, truth: Labels, prediction: Labels) -> None:
        """Adds one image, as `ConfusionMatrix.add`."""
        for kind, counts in self._counts.items():
            distances = void_distances if kind == "void" else edge_distances
            _count(counts, distances(truth, self.ignore_index), truth, prediction)
        if self.asked == "auto":
            direct, changes = _changes(truth, self.ignore_index)
            self._direct += direct
            self._changes += changes

    def merge(self, other: "Trimap") -> None:
        """Adds what another one, made in the same way, has counted."""
        self._counts = {kind: counts + other._counts[kind] for kind, counts in self._counts.items()}
        self._direct += other._direct
        self._changes += other._changes

    @property
    def around(self) -> Outline:
        """What the bands of the curve lie around."""
        if self.asked != "auto":
            return self.asked
        return "void" if self._changes and self._direct <= _DIRECT * self._changes else "edges"

    def curve(self) -> TrimapCurve:
        within = np.cumsum(self._counts[self.around], 0)
        scores = [scores_of(self.classes, counts) for counts in within]
        return TrimapCurve(
            self.around, WIDTHS, tuple(each.miou for each in scores), tuple(each.pixel_accuracy for each in scores)
        )


def void_distances(truth: Labels, ignore_index: int = 255) -> NDArray[np.uint8]:
    """uint8 H×W: how far each pixel is from void, in rows or columns, whichever is more; 0 on void, 255 is far."""
    return _distances(truth == ignore_index)


def edge_distances(truth: Labels, ignore_index: int = 255) -> NDArray[np.uint8]:
    """uint8 H×W: how far each pixel is from one of another label, void being one; 0 on void, 255 is far."""
    square = np.ones((3, 3), np.uint8)
    beside = cv2.erode(truth, square) != cv2.dilate(truth, square)
    distances = _distances(beside)
    distances += distances < 255  # the other label begins one pixel further on
    distances[truth == ignore_index] = 0
    return distances


def _distances(sources: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if not sources.any():
        return np.full(sources.shape, 255, np.uint8)
    elsewhere = np.logical_not(sources).view(np.uint8)
    distances: NDArray[np.float32] = cv2.distanceTransform(elsewhere, cv2.DIST_C, 3)
    return np.minimum(distances, 255).astype(np.uint8)


def _count(counts: Counts, distances: NDArray[np.uint8], truth: Labels, prediction: Labels) -> None:
    bins, classes, _ = counts.shape
    near = (distances > 0) & (distances <= bins)
    bands = distances[near].astype(np.int64) - 1
    pairs = (bands * classes + truth[near]) * classes + prediction[near]
    counts += np.bincount(pairs, minlength=counts.size).reshape(counts.shape)


def _changes(truth: Labels, ignore_index: int) -> tuple[int, int]:
    """Between how many neighbours the label changes from class to class, and from anything to anything else."""
    direct = changes = 0
    for before, after in ((truth[:-1], truth[1:]), (truth[:, :-1], truth[:, 1:])):
        differ = before != after
        changes += int(differ.sum())
        direct += int((differ & (before != ignore_index) & (after != ignore_index)).sum())
    return direct, changes
