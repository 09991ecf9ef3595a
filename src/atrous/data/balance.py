"""What a data set's histogram says about balance: weights for classes in the loss, and for photos in sampling."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import SegmentationDataset

Floats = NDArray[np.float64]


def count_pixels(dataset: SegmentationDataset, progress: Callable[[int, int], None] | None = None) -> NDArray[np.int64]:
    """How many pixels of each class every mask has: N×K; void is not counted.

    Raises:
        DataError: a mask that cannot be read.
    """
    classes = len(dataset.classes.names)

    def count(index: int) -> NDArray[np.int64]:
        return np.bincount(dataset.mask(index).reshape(-1), minlength=256)[:classes]

    counts = np.zeros((len(dataset), classes), np.int64)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="atrous-count") as pool:
        for index, row in enumerate(pool.map(count, range(len(dataset)))):
            counts[index] = row
            if progress:
                progress(index + 1, len(dataset))
    return counts


def median_frequency_weights(counts: NDArray[np.int64]) -> Floats:
    """K class weights, median(f) / f (Eigen and Fergus, ICCV 2015, section 6.3.2; SegNet's too).

    f is a class's share of the pixels of the photos that it occurs in. A class that never occurs gets 0.
    """
    present = counts > 0
    where = (counts.sum(axis=1, keepdims=True) * present).sum(axis=0)
    seen = where > 0
    frequency = counts.sum(axis=0)[seen] / where[seen]
    weights = np.zeros(counts.shape[1])
    weights[seen] = np.median(frequency) / frequency if seen.any() else 0.0
    return weights


def bounded_weights(counts: NDArray[np.int64], c: float = 1.02) -> Floats:
    """K class weights, 1 / ln(c + p), p a class's share of all pixels (ENet, section 5.1): within 1.4 and 50.5."""
    total = counts.sum()
    share = counts.sum(axis=0) / total if total else np.zeros(counts.shape[1])
    return np.asarray(1 / np.log(c + share))


def sampling_weights(counts: NDArray[np.int64]) -> Floats:
    """N shares that add up to 1, by which to draw photos: a class drawn evenly, then one of the photos that hold it.

    A photo without any class has no share.
    """
    present = counts > 0
    photos = present.sum(axis=0)
    seen = photos > 0
    if not seen.any():
        return np.full(len(counts), 1 / max(1, len(counts)))
    return np.asarray((present[:, seen] / photos[seen]).mean(axis=1))
