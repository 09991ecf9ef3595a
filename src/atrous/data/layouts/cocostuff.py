"""COCO-Stuff 164k: pixel maps of 182 labels, 255 where nothing is labelled."""

from pathlib import Path

from atrous.data.classes import published
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.layout import Layout, first_folder, photos_in
from atrous.data.masks import PictureMasks

_FOLDERS = {"train": "train2017", "val": "val2017"}


def _places(root: Path, split: str) -> tuple[Path, Path] | None:
    """Where a split's photos and pixel maps lie."""
    folder = _FOLDERS[split]
    photos = first_folder((root / "images" / folder, root / folder))
    maps = first_folder(root / place / folder for place in ("stuffthingmaps", "annotations", "pixelmaps"))
    return None if photos is None or maps is None else (photos, maps)


def _splits(root: Path) -> tuple[str, ...]:
    return tuple(split for split in _FOLDERS if _places(root, split))


def _open(root: Path, split: str) -> SegmentationDataset:
    photos, maps = _places(root, split) or (root, root)
    pairs = [(photo, maps / f"{photo.stem}.png") for photo in photos_in(photos)]
    classes = published("cocostuff")
    return SegmentationDataset(root, split, COCO_STUFF.name, classes, pairs, PictureMasks(classes))


COCO_STUFF = Layout("COCO-Stuff 164k", _splits, _open)
