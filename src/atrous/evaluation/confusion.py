"""Scores from one confusion matrix over all images, as VOC and the papers compute them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix comes to.

    Attributes:
        miou: the mean of `iou` over the classes that occur in truth or prediction.
        pixel_accuracy: the share of judged pixels that are right.
        iou: each class's TP / (TP + FP + FN); None where it occurs in neither.
    """

    miou: float
    pixel_accuracy: float
    iou: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        iou = {name: None if value is None else round(value, 4) for name, value in self.iou.items()}
        return {"miou": round(self.miou, 4), "pixel_accuracy": round(self.pixel_accuracy, 4), "iou": iou}


class ConfusionMatrix:
    """Counts of (truth, prediction) over every pixel that is not ignored.

    Images of any sizes are added one by one; the mean IoU is that of the whole, never a mean over images.
    """

    def __init__(self, classes: tuple[str, ...], ignore_index: int = 255) -> None:
        self.classes = classes
        self.ignore_index = ignore_index
        self.counts: NDArray[np.int64] = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Adds one image: uint8 H×W each, truth in 0..K-1 or `ignore_index`, prediction in 0..K-1."""
        judged = truth != self.ignore_index
        pairs = truth[judged].astype(np.int64) * len(self.classes) + prediction[judged]
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)

    def scores(self) -> Scores:
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        iou = {
            name: float(hit / total) if total else None
            for name, hit, total in zip(self.classes, hits, union, strict=True)
        }
        present = [value for value in iou.values() if value is not None]
        total = int(self.counts.sum())
        return Scores(
            miou=float(np.mean(present)) if present else 0.0,
            pixel_accuracy=float(hits.sum() / total) if total else 0.0,
            iou=iou,
        )
