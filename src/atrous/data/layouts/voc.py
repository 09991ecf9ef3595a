"""PASCAL VOC 2012, and SBD's further masks for its photos ("trainaug", 10,582 of them)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.classes import Classes, published
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.layout import Layout, first_folder, read_names
from atrous.data.layouts.matlab import read_field
from atrous.data.masks import PictureMasks
from atrous.errors import DataError

_LISTS = "ImageSets/Segmentation"
_AUGMENTED = "trainaug"
_SPLITS = ("train", "val", "trainval", "test")


@dataclass(frozen=True)
class _VocMasks:
    """Masks as VOC has them, pictures, and as SBD has them, in MATLAB files."""

    pictures: PictureMasks

    def __call__(self, image: Path, mask: Path) -> NDArray[np.uint8]:
        if mask.suffix == ".mat":
            return read_field(mask, "GTcls", "Segmentation")
        return self.pictures(image, mask)


def _splits(root: Path) -> tuple[str, ...]:
    base = _base(root)
    if base is None:
        return ()
    listed = tuple(split for split in _SPLITS if (base / _LISTS / f"{split}.txt").is_file())
    augmented = (base / _LISTS / f"{_AUGMENTED}.txt").is_file() or ("train" in listed and _sbd(root) is not None)
    return (*listed, _AUGMENTED) if augmented else listed


def _open(root: Path, split: str) -> SegmentationDataset:
    base, sbd = _base(root), _sbd(root)
    if base is None:
        raise DataError(f"{root}: not laid out as PASCAL VOC")
    names = _augmented(base, sbd) if split == _AUGMENTED else _listed(base, split)
    finely = _masks_in(base / "SegmentationClass")
    coarsely = _masks_in(base / "SegmentationClassAug") if split == _AUGMENTED else {}
    if sbd is not None and split == _AUGMENTED:
        coarsely = {**_masks_in(sbd / "cls"), **coarsely}
    missing = base / "SegmentationClass"
    pairs = [
        (base / "JPEGImages" / f"{name}.jpg", finely.get(name) or coarsely.get(name) or missing / f"{name}.png")
        for name in names
    ]
    classes = published("voc")
    classes = Classes(classes.names, classes.palette, void_colours=((224, 224, 192),))
    return SegmentationDataset(root, split, VOC.name, classes, pairs, _VocMasks(PictureMasks(classes)))


def _augmented(base: Path, sbd: Path | None) -> list[str]:
    """VOC's own list and SBD's, without the photos by which VOC judges."""
    path = base / _LISTS / f"{_AUGMENTED}.txt"
    if path.is_file() or sbd is None:
        return _listed(base, _AUGMENTED)
    judged = set(_listed(base, "val"))
    more = {Path(name).stem for split in ("train", "val") for name in read_names(sbd / f"{split}.txt")}
    return sorted(more.union(_listed(base, "train")) - judged)


def _listed(base: Path, split: str) -> list[str]:
    photos = base / "JPEGImages"
    names = read_names(base / _LISTS / f"{split}.txt", lambda name: (photos / f"{Path(name).stem}.jpg").is_file())
    return [Path(name).stem for name in names]


def _masks_in(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.iterdir()} if folder.is_dir() else {}


def _base(root: Path) -> Path | None:
    places = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    return first_folder(places, "JPEGImages", "SegmentationClass", _LISTS)


def _sbd(root: Path) -> Path | None:
    """SBD as its archive unpacks, or its folder under its own name."""
    places = (root / "benchmark_RELEASE" / "dataset", root / "VOCdevkit" / "benchmark_RELEASE" / "dataset")
    return first_folder((*places, root / "sbd", root / "SBD"), "cls", "train.txt", "val.txt")


VOC = Layout("PASCAL VOC", _splits, _open)
