"""Cityscapes: fine annotations, as published (ids) or converted (train ids)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.classes import IGNORED, published
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.layout import Layout
from atrous.data.masks import PictureMasks

# The ids of the 19 classes that are trained, in the order of their train ids (cityscapesScripts, labels.py).
TRAINED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

_PHOTO, _IDS, _TRAIN_IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"


@dataclass(frozen=True)
class _CityscapesMasks:
    """Ids become train ids; masks that hold train ids already are read as they are."""

    ids: PictureMasks
    train_ids: PictureMasks

    def __call__(self, image: Path, mask: Path) -> NDArray[np.uint8]:
        reader = self.train_ids if mask.name.endswith(_TRAIN_IDS) else self.ids
        return reader(image, mask)


def _splits(root: Path) -> tuple[str, ...]:
    places = (root / "leftImg8bit", root / "gtFine")
    return tuple(split for split in ("train", "val", "test") if all((place / split).is_dir() for place in places))


def _open(root: Path, split: str) -> SegmentationDataset:
    pairs = [
        (photo, _mask(root / "gtFine" / split / photo.parent.name, photo.name.removesuffix(_PHOTO)))
        for photo in sorted((root / "leftImg8bit" / split).glob(f"*/*{_PHOTO}"))
    ]
    table = np.full(256, IGNORED, np.uint8)
    table[list(TRAINED_IDS)] = np.arange(len(TRAINED_IDS))
    classes = published("cityscapes")
    reader = _CityscapesMasks(PictureMasks(classes, table), PictureMasks(classes))
    return SegmentationDataset(root, split, CITYSCAPES.name, classes, pairs, reader)


def _mask(folder: Path, name: str) -> Path:
    converted = folder / (name + _TRAIN_IDS)
    return converted if converted.is_file() else folder / (name + _IDS)


CITYSCAPES = Layout("Cityscapes", _splits, _open)
