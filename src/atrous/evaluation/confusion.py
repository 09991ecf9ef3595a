"""Scores from one confusion matrix over all images, as VOC and the papers compute them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

Labels = NDArray[np.uint8]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix comes to.

    Attributes:
        miou: the mean of `iou` over the classes that occur in truth or prediction (Cityscapes' script; VOC's never
            meets another case).
        pixel_accuracy: the share of judged pixels that are right.
        mean_accuracy: the mean of `accuracy` over the classes that occur in truth.
        frequency_weighted_iou: the mean of `iou`, each weighted by the share of the pixels that are truly its
            (FCN, section 5).
        iou: each class's TP / (TP + FP + FN); None where it occurs in neither.
        accuracy: each class's TP / (TP + FN); None where it does not occur in truth.
    """

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: dict[str, float | None]
    accuracy: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        return {
            "miou": round(self.miou, 4),
            "pixel_accuracy": round(self.pixel_accuracy, 4),
            "mean_accuracy": round(self.mean_accuracy, 4),
            "frequency_weighted_iou": round(self.frequency_weighted_iou, 4),
            "iou": rounded(self.iou),
            "accuracy": rounded(self.accuracy),
        }


class ConfusionMatrix:
    """Counts of (truth, prediction) over every pixel that is not ignored.

    Images of any sizes are added one by one; the mean IoU is that of the whole, never a mean over images.

    Attributes:
        counts: int64 K×K; row: truth, column: prediction.
    """

    def __init__(self, classes: tuple[str, ...], ignore_index: int = 255) -> None:
        self.classes = classes
        self.ignore_index = ignore_index
        self.counts: Counts = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, truth: Labels, prediction: Labels) -> None:
        """Adds one image: uint8 H×W each, truth in 0..K-1 or `ignore_index`, prediction in 0..K-1."""
        judged = truth != self.ignore_index
        self.counts += count_pairs(truth[judged], prediction[judged], len(self.classes))

    def merge(self, other: "ConfusionMatrix") -> None:
        """Adds what another one has counted.

        Raises:
            AtrousError: it has other classes.
        """
        if self.classes != other.classes:
            raise AtrousError("scores of different classes cannot be merged: evaluate with the same classes.json")
        self.counts = self.counts + other.counts

    def scores(self) -> Scores:
        return scores_of(self.classes, self.counts)


def count_pairs(truth: Labels, prediction: Labels, classes: int) -> Counts:
    """int64 K×K: how many pixels have each truth (row) and prediction (column); labels of any, equal shape."""
    pairs = truth.astype(np.int64) * classes + prediction
    return np.bincount(pairs.reshape(-1), minlength=classes * classes).reshape(classes, classes)


def scores_of(classes: tuple[str, ...], counts: Counts) -> Scores:
    """The scores of a confusion matrix, int64 K×K; 0 where nothing was judged."""
    hits, truths = np.diag(counts), counts.sum(1)
    unions = truths + counts.sum(0) - hits
    iou, accuracy = shares(classes, hits, unions), shares(classes, hits, truths)
    total = max(1, int(counts.sum()))
    weighted = sum(int(count) * (iou[name] or 0.0) for name, count in zip(classes, truths, strict=True))
    return Scores(
        miou=mean(iou),
        pixel_accuracy=float(hits.sum() / total),
        mean_accuracy=mean(accuracy),
        frequency_weighted_iou=float(weighted / total),
        iou=iou,
        accuracy=accuracy,
    )


def shares(classes: tuple[str, ...], parts: Counts, wholes: Counts) -> dict[str, float | None]:
    """Each class's part of its whole; None where that is nothing."""
    pairs = zip(classes, parts, wholes, strict=True)
    return {name: float(part / whole) if whole else None for name, part, whole in pairs}


def mean(values: dict[str, float | None]) -> float:
    """The mean of what is there; 0 if nothing is."""
    present = [value for value in values.values() if value is not None]
    return float(np.mean(present)) if present else 0.0


def rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 4) for name, value in values.items()}
