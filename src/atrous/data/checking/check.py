"""The doctor: every photo and mask of a data set is looked at once."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from atrous.data.checking.diagnosis import diagnose
from atrous.data.checking.findings import Report, SplitSummary
from atrous.data.checking.look import Look, look_at
from atrous.data.classes import Classes
from atrous.data.dataset import SegmentationDataset
from atrous.data.opening import recognise

Progress = Callable[[int, int], None]


def check_dataset(path: str | Path, progress: Progress | None = None) -> Report:
    """Looks at every photo and mask of every split, in threads.

    Args:
        progress: called with (done, total) after each photo.

    Raises:
        DataError: no such folder, or none that is known; lists, classes or annotations that cannot be read.
    """
    root = Path(path)
    layout = recognise(root)
    datasets = {split: layout.open(root, split) for split in layout.splits(root)}
    looks = _look(datasets, progress)
    first = next(iter(datasets.values()))
    splits = {split: _summary(looks[split], first.classes) for split in datasets}
    findings = tuple(diagnose(root, datasets, looks, splits))
    return Report(root, first.layout, first.classes, splits, findings, looks)


def _look(datasets: dict[str, SegmentationDataset], progress: Progress | None) -> dict[str, list[Look]]:
    """Each pair once, also if it is in several splits, as in VOC's train and trainval."""
    places = {
        pair: (dataset, index)
        for dataset in datasets.values()
        for index, pair in enumerate(zip(dataset.images, dataset.masks, strict=True))
    }
    looks: dict[tuple[Path, Path], Look] = {}
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="atrous-check") as pool:
        for pair, look in zip(places, pool.map(lambda place: look_at(*place), places.values()), strict=True):
            looks[pair] = look
            if progress:
                progress(len(looks), len(places))
    return {
        split: [looks[pair] for pair in zip(dataset.images, dataset.masks, strict=True)]
        for split, dataset in datasets.items()
    }


def _summary(looks: list[Look], classes: Classes) -> SplitSummary:
    counts = np.array([look.counts for look in looks]).reshape(-1, 257)
    known = counts[:, : len(classes.names)]
    return SplitSummary(
        photos=len(looks),
        sizes=Counter(look.size for look in looks if look.size is not None),
        pixels=known.sum(axis=0),
        present=(known > 0).sum(axis=0),
        ignored=int(counts[:, classes.ignore_index].sum()),
    )
