"""CamVid in 11 classes: as the SegNet tutorial has it (480×360, indices), or as published (960×720, 32 colours)."""

import re
from pathlib import Path

import numpy as np

from atrous.classes import Colour
from atrous.data.classes import IGNORED, Classes, published
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.layout import Layout, photos_in, read_names
from atrous.data.masks import PictureMasks

SPLITS = ("train", "val", "test")

# The colours of CamVid's 32 classes (label_colors.txt), grouped into 11 as SegNet does (PAMI 2017, section 4).
_GROUPS: dict[str, tuple[Colour, ...]] = {
    "Sky": ((128, 128, 128),),
    # Building, Archway, Bridge, Tunnel, Wall
    "Building": ((128, 0, 0), (192, 0, 128), (0, 128, 64), (64, 0, 64), (64, 192, 0)),
    # Column_Pole, TrafficCone
    "Pole": ((192, 192, 128), (0, 0, 64)),
    # Road, LaneMkgsDriv, LaneMkgsNonDriv
    "Road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),
    # Sidewalk, ParkingBlock, RoadShoulder
    "Pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),
    # Tree, VegetationMisc
    "Tree": ((128, 128, 0), (192, 192, 0)),
    # SignSymbol, Misc_Text, TrafficLight
    "SignSymbol": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),
    "Fence": ((64, 64, 128),),
    # Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving
    "Car": ((64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)),
    # Pedestrian, Child, CartLuggagePram, Animal
    "Pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),
    # Bicyclist, MotorcycleScooter
    "Bicyclist": ((0, 128, 192), (192, 0, 192)),
}
_VOID: Colour = (0, 0, 0)

_PHOTOS, _MASKS = ("701_StillsRaw_full", "images"), ("LabeledApproved_full", "labels")


def _tutorial_splits(root: Path) -> tuple[str, ...]:
    base = _tutorial_base(root)
    return tuple(s for s in SPLITS if (base / s).is_dir() and (base / f"{s}annot").is_dir())


def _open_tutorial(root: Path, split: str) -> SegmentationDataset:
    base = _tutorial_base(root)
    pairs = [(photo, base / f"{split}annot" / f"{photo.stem}.png") for photo in photos_in(base / split)]
    table = np.arange(256, dtype=np.uint8)
    table[11] = IGNORED
    classes = published("camvid")
    return SegmentationDataset(root, split, TUTORIAL.name, classes, pairs, PictureMasks(classes, table))


def _tutorial_base(root: Path) -> Path:
    """The folder itself, or `CamVid` in the whole tutorial."""
    return root / "CamVid" if (root / "CamVid" / "train").is_dir() else root


def _original_places(root: Path) -> tuple[Path, Path] | None:
    photos = next((root / name for name in _PHOTOS if (root / name).is_dir()), None)
    masks = next((root / name for name in _MASKS if (root / name).is_dir()), None)
    if photos is None or masks is None or not any(masks.glob("*_L.png")):
        return None
    return photos, masks


def _original_splits(root: Path) -> tuple[str, ...]:
    places = _original_places(root)
    if places is None:
        return ()
    present = {split_of(photo.stem) for photo in photos_in(places[0])}
    return tuple(split for split in SPLITS if split in present or (root / f"{split}.txt").is_file())


def _open_original(root: Path, split: str) -> SegmentationDataset:
    photos, masks = _original_places(root) or (root, root)
    listed = root / f"{split}.txt"
    if listed.is_file():
        stems = {photo.stem for photo in photos_in(photos)}
        wanted = {Path(name).stem for name in read_names(listed, lambda name: Path(name).stem in stems)}
    else:
        wanted = {photo.stem for photo in photos_in(photos) if split_of(photo.stem) == split}
    pairs = [(photo, masks / f"{photo.stem}_L.png") for photo in photos_in(photos) if photo.stem in wanted]
    classes = published("camvid")
    classes = Classes(classes.names, classes.palette, void_colours=(_VOID,))
    colours = {colour: classes.names.index(name) for name, group in _GROUPS.items() for colour in group}
    reader = PictureMasks(classes, colours={**colours, _VOID: IGNORED})
    return SegmentationDataset(root, split, ORIGINAL.name, classes, pairs, reader)


def split_of(name: str) -> str:
    """The split that the tutorial's lists (367, 101 and 233 photos) put a frame of CamVid into.

    They follow the sequences: half of 0001TP and all of Seq05VD are the test, a stretch of 0016E5 is val.
    """
    found = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", name)
    if found is None:
        return "train"
    sequence, frame = found[1], int(found[2])
    if sequence == "Seq05VD" or (sequence == "0001TP" and frame > 8520):
        return "test"
    return "val" if sequence == "0016E5" and 7959 <= frame <= 8159 else "train"


TUTORIAL = Layout("CamVid (SegNet tutorial)", _tutorial_splits, _open_tutorial)
ORIGINAL = Layout("CamVid (32 colours to 11 classes)", _original_splits, _open_original)
