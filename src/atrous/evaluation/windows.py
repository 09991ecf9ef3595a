"""Sliding windows: a photo seen in overlapping squares, whose scores are averaged where they overlap.

This is mmsegmentation's `slide` mode. `Predictor`'s own tiles, for photos that are too large, keep one tile's labels
for each pixel; here every window counts.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from atrous.crf import mean_field
from atrous.data import read_image
from atrous.errors import AtrousError
from atrous.inference import Failure, Predictor, Segmentation
from atrous.inference.labelling import Keywords, Options

Timed: TypeAlias = tuple[Segmentation | Failure, float]

_SMALLEST = 33
_FLOOR = np.float32(1e-38)  # the least probability whose logarithm is taken
_PRUNE = 0.01  # as `Predictor` has it


@dataclass(frozen=True)
class Windows:
    """Squares of `side` pixels, `stride` pixels from one to the next; two thirds of the side if it is not given.

    Raises:
        AtrousError: windows too small to show the network anything, or a stride that leaves gaps.
    """

    side: int
    stride: int = 0

    def __post_init__(self) -> None:
        if self.side < _SMALLEST:
            raise AtrousError(f"window={self.side} is too small: give at least {_SMALLEST} pixels")
        if not self.stride:
            object.__setattr__(self, "stride", self.side * 2 // 3)
        if not 0 < self.stride <= self.side:
            raise AtrousError(f"stride={self.stride} does not fit windows of {self.side}: give 1 to {self.side} pixels")

    def places(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """The windows of a photo, in rows from the top left; the last ones are moved back to end at its edge."""
        return [(rows, columns) for rows in self._spans(height) for columns in self._spans(width)]

    def _spans(self, side: int) -> list[slice]:
        count = max(0, -(-(side - self.side) // self.stride)) + 1
        ends = (min(index * self.stride + self.side, side) for index in range(count))
        return [slice(max(0, end - self.side), end) for end in ends]


def predict_in_windows(
    predictor: Predictor, photos: Iterable[Path], windows: Windows, **options: Unpack[Keywords]
) -> Iterator[Timed]:
    """Predicts photos one after another, in windows; the options hold within each of them.

    Where windows overlap, the means of their log-probabilities are taken: up to a constant of each pixel these are the
    means of the logits. A CRF refines the whole of that. K×H×W floats of one photo are held, besides what a window
    needs.

    Yields:
        A `Segmentation` with its probabilities, or a `Failure`, and the seconds that it took without its reading.
    """
    crf = Options(**options).crf_params
    inside: Keywords = {**options, "scores": True, "tile": 0, "crf": False}
    for path in photos:
        try:
            photo = read_image(path)
        except AtrousError as error:
            yield Failure(path, str(error)), 0.0
            continue
        sums, result, seconds = _average(predictor, photo, windows, inside)
        if isinstance(result, Failure):
            yield Failure(path, f"{path}: {result.message}"), seconds
            continue
        begun = time.perf_counter()
        if crf:
            sums = mean_field(-sums, photo, crf, prune=_PRUNE)
        else:
            np.exp(sums, out=sums)
            sums /= sums.sum(0)
        labels = sums.argmax(0).astype(np.uint8)
        whole = replace(result, image=photo, labels=labels, source=path, probabilities=sums)
        yield whole, seconds + time.perf_counter() - begun


def _average(
    predictor: Predictor, photo: NDArray[np.uint8], windows: Windows, options: Keywords
) -> tuple[NDArray[np.float32], Segmentation | Failure, float]:
    """K×H×W mean log-probabilities, 0 for the largest; the last window's result, a failure if one was; the seconds."""
    height, width, _ = photo.shape
    places = windows.places(height, width)
    sums = np.zeros((len(predictor.classes), height, width), np.float32)
    seen = np.zeros((height, width), np.float32)
    seconds = 0.0
    results = predictor.timed_stream((photo[place] for place in places), lambda _: None, **options)
    for place, (result, taken) in zip(places, results, strict=True):
        seconds += taken
        if isinstance(result, Failure):
            break
        found = np.maximum(result.scores(), _FLOOR)
        sums[:, *place] += np.log(found, out=found)
        seen[place] += 1
    sums /= np.maximum(1, seen)
    sums -= sums.max(0)
    return sums, result, seconds
