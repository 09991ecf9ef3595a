"""How far the probabilities can be believed: the expected calibration error (Guo et al., ICML 2017, section 2)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.evaluation.confusion import Counts, Labels

BINS = 15
_ONE = 1 << 24  # confidences are summed as whole numbers of this part: sums do not depend on their order


@dataclass(frozen=True)
class Reliability:
    """The winning class's probability against how often it is right.

    Attributes:
        error: the expected calibration error: the mean over pixels of |accuracy - confidence| of their bin.
        edges: 16 bounds of the 15 bins from 0 to 1; a bin holds its upper one.
        pixels: how many fall into each bin.
        confidence: their mean probability; None in an empty bin.
        accuracy: the share of them that is right; None in an empty bin.
    """

    error: float
    edges: tuple[float, ...]
    pixels: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        def short(values: tuple[float | None, ...]) -> list[float | None]:
            return [None if value is None else round(value, 4) for value in values]

        return {
            "error": round(self.error, 4),
            "edges": [round(edge, 4) for edge in self.edges],
            "pixels": list(self.pixels),
            "confidence": short(self.confidence),
            "accuracy": short(self.accuracy),
        }


class Calibration:
    """Counts of judged pixels, of right ones and of confidence, in bins of the winning probability."""

    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index
        self._pixels: Counts = np.zeros(BINS, np.int64)
        self._right: Counts = np.zeros(BINS, np.int64)
        self._confidence: Counts = np.zeros(BINS, np.int64)

    def add(self, truth: Labels, prediction: Labels, confidence: NDArray[np.float32]) -> None:
        """Adds one image: as `ConfusionMatrix.add`, and float32 H×W, the predicted class's probability."""
        judged = truth != self.ignore_index
        sure = np.clip(confidence[judged], 0, 1)
        bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
        right = truth[judged] == prediction[judged]
        self._pixels += np.bincount(bins, minlength=BINS)
        self._right += np.bincount(bins[right], minlength=BINS)
        parts = np.rint(sure.astype(np.float64) * _ONE)
        self._confidence += np.bincount(bins, weights=parts, minlength=BINS).astype(np.int64)

    def merge(self, other: "Calibration") -> None:
        """Adds what another one has counted."""
        self._pixels = self._pixels + other._pixels
        self._right = self._right + other._right
        self._confidence = self._confidence + other._confidence

    def reliability(self) -> Reliability:
        total = max(1, int(self._pixels.sum()))
        gaps = np.abs(self._right - self._confidence / _ONE)
        return Reliability(
            error=float(gaps.sum() / total),
            edges=tuple(edge / BINS for edge in range(BINS + 1)),
            pixels=tuple(int(count) for count in self._pixels),
            confidence=self._of_bins(self._confidence / _ONE),
            accuracy=self._of_bins(self._right),
        )

    def _of_bins(self, sums: NDArray[Any]) -> tuple[float | None, ...]:
        pairs = zip(sums, self._pixels, strict=True)
        return tuple(float(value / count) if count else None for value, count in pairs)
