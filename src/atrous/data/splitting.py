"""Split lists for a folder that has none."""

from pathlib import Path

import numpy as np

from atrous.data.layouts.folder import FOLDER, WHOLE
from atrous.data.opening import list_splits, open_dataset, recognise
from atrous.errors import DataError
from atrous.files import replacing


def write_split_lists(path: str | Path, share: float, seed: int) -> dict[str, int]:
    """Writes `train.txt` and `val.txt`, the latter with that share of the photos, drawn by the seed.

    Returns:
        How many photos each got.

    Raises:
        DataError: the folder has splits or takes no lists, a photo without a mask, or too few photos for both.
    """
    root = Path(path)
    if seed < 0:
        raise DataError(f"--seed {seed}: a seed is a whole number from 0 on")
    splits = list_splits(root)
    if splits != (WHOLE,):
        raise DataError(f"{root}: has the splits {', '.join(splits)} already; take them away to draw new ones")
    if (layout := recognise(root)) is not FOLDER:
        raise DataError(
            f"{root}: as {layout.name} it takes no lists: `atrous data check --fix OUT` writes a copy that does"
        )
    names = [photo.name for photo in open_dataset(root, WHOLE).images]
    if len(names) < 2:
        raise DataError(
            f"{root}: holds {len(names)} photo; a split takes two or more, one to train on and one to judge by"
        )
    count = round(len(names) * share)
    if not 0 < count < len(names):
        raise DataError(f"{root}: {share:g} of its {len(names)} photos leaves a split empty; give another share")
    chosen = set(np.random.default_rng(seed).permutation(len(names))[:count].tolist())
    lists = {
        "train": [name for index, name in enumerate(names) if index not in chosen],
        "val": [name for index, name in enumerate(names) if index in chosen],
    }
    for split, listed in lists.items():
        with replacing(root / f"{split}.txt") as unfinished:
            unfinished.write_text("".join(f"{name}\n" for name in listed), encoding="utf-8")
    if list_splits(root) != ("train", "val"):
        for split in lists:
            (root / f"{split}.txt").unlink()
        raise DataError(f"{root}: its layout takes no lists: sort its photos into images/train and images/val")
    return {split: len(listed) for split, listed in lists.items()}
