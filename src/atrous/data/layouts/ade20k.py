"""ADE20K's scene parsing benchmark: 150 classes counted from 1, where 0 is what is not labelled."""

from pathlib import Path

import numpy as np

from atrous.data.classes import IGNORED, published
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.layout import Layout, first_folder, photos_in
from atrous.data.masks import PictureMasks
from atrous.errors import DataError

_FOLDERS = {"train": "training", "val": "validation"}


def _base(root: Path) -> Path | None:
    return first_folder((root, root / "ADEChallengeData2016"), "images/validation", "annotations/validation")


def _splits(root: Path) -> tuple[str, ...]:
    base = _base(root)
    return tuple(split for split, folder in _FOLDERS.items() if base and (base / "annotations" / folder).is_dir())


def _open(root: Path, split: str) -> SegmentationDataset:
    base = _base(root)
    if base is None:
        raise DataError(f"{root}: not laid out as ADE20K's scene parsing benchmark")
    folder = _FOLDERS[split]
    pairs = [
        (photo, base / "annotations" / folder / f"{photo.stem}.png") for photo in photos_in(base / "images" / folder)
    ]
    classes = published("ade20k")
    table = np.arange(256, dtype=np.uint8) - np.uint8(1)  # 0 becomes 255
    table[len(classes.names) + 1 :] = IGNORED - 1  # no class: refused when it is met
    return SegmentationDataset(root, split, ADE20K.name, classes, pairs, PictureMasks(classes, table))


ADE20K = Layout("ADE20K (scene parsing)", _splits, _open)
