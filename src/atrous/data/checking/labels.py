"""What the labels of all masks together say: which mean nothing, which classes are rare or missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atrous.data.checking.findings import Finding, SplitSummary
from atrous.data.checking.look import Look
from atrous.data.classes import FILE, IGNORED, Classes, shared_colour
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.folder import FOLDER, USUAL, WHOLE, masks_in
from atrous.data.masks import PictureMasks

Looks: TypeAlias = dict[str, list[Look]]

_RARE = 100  # times fewer pixels than the most frequent class has
_MUCH_IGNORED = 0.5
_GREYS = 32
_MEANINGLESS = {"unknown-colours", "stray-colours", "shared-colour"}  # whose pixels were taken for void


def black_and_white(looks: Looks, named: int) -> bool:
    """Whether the masks are black and white pictures, where 255 means a class and not void.

    Args:
        named: how many classes have names; labels below it are theirs, and no greys.
    """
    counts = _total(looks)
    greys = np.flatnonzero(counts[1:255]) + 1
    # Resized with interpolation, or stored as JPEG, they have every grey at their outlines, dark and bright ones.
    unnamed = greys[greys >= max(2, named)]
    ends = min((unnamed < 128).sum(), (unnamed >= 128).sum())
    blurred = ends > _GREYS // 2 and counts[0] + counts[255] >= 0.9 * counts.sum()
    return bool(counts[0] and counts[255] and (len(greys) == 0 or blurred))


def named_classes(root: Path, classes: Classes) -> int:
    """How many classes have names; none if they were only counted, for want of a `classes.json`."""
    counted = classes.names[0] == "class_0" and not (root / FILE).is_file()
    return 0 if counted else len(classes.names)


def counted_from_one(looks: Looks, classes: int) -> bool:
    """Whether the masks count their classes from 1: the label behind the last is there, and 0 is not."""
    counts = _total(looks)
    return bool(counts[0] == 0 and counts[classes] and classes < 255 and not counts[classes + 1 : 255].any())


def _total(looks: Looks) -> NDArray[np.int64]:
    total = np.zeros(257, np.int64)
    for look in (look for split in looks.values() for look in split):
        total += look.counts
    return total


def diagnose_labels(datasets: dict[str, SegmentationDataset], looks: Looks) -> Iterator[Finding]:
    """Labels that mean nothing, or not what they seem to."""
    dataset = next(iter(datasets.values()))
    classes = dataset.classes
    indices = isinstance(dataset.read_mask, PictureMasks) and dataset.read_mask.labels is None
    if indices and classes.ignore_index == IGNORED and black_and_white(looks, named_classes(dataset.root, classes)):
        yield Finding(
            "black-and-white",
            "wrong",
            "the masks hold 0 and 255 alone: black and white pictures, whose white would be taken for void",
            'store white as 1: (mask > 127).astype("uint8")',
            mechanical=True,
        )
        return
    allowed = np.zeros(257, bool)
    allowed[: len(classes.names)] = True
    allowed[classes.ignore_index] = True
    every = [look for split in looks.values() for look in split if "resampled" not in look.problems]
    found = [look for look in every if look.counts[~allowed].any()]
    if not found:
        return
    beyond = np.flatnonzero(~allowed & (np.sum([look.counts for look in found], axis=0) > 0))
    shown = ", ".join("below 0 or more than 255" if label == 256 else str(label) for label in beyond[:5])
    many = ", …" if len(beyond) > 5 else ""
    shifted = indices and counted_from_one(looks, len(classes.names))
    if shifted:
        mend = "the masks count from 1, as 0 never occurs: subtract 1"
    elif beyond.tolist() == [len(classes.names)]:
        mend = (
            f"either a class is missing in {FILE} (perhaps the background, as the first), or 0 means unlabelled and "
            "the classes count from 1: then 0 becomes 255, and from the others 1 is subtracted"
        )
    else:
        mend = f"name them in {FILE}, or write {classes.ignore_index} where a pixel is not to count"
    yield Finding(
        "labels-beyond",
        "wrong",
        f"labels that no class has ({shown}{many}); there are {len(classes.names)} classes",
        mend,
        tuple(dict.fromkeys(look.mask for look in found)),
        shifted,
    )


def diagnose_classes(
    root: Path, datasets: dict[str, SegmentationDataset], looks: Looks, splits: dict[str, SplitSummary]
) -> Iterator[Finding]:
    """Classes that are missing, rare or not named, and splits that are."""
    classes = next(iter(datasets.values())).classes
    names = classes.names
    total = np.sum([split.pixels for split in splits.values()], axis=0)
    yield from _without_lesson(root, datasets, looks, classes)
    if datasets.keys() == {WHOLE}:
        yield Finding(
            "no-splits",
            "doubtful",
            "there are no splits: nothing is kept to judge by",
            "`atrous data split` writes train.txt and val.txt; photos of one scene belong into one of them",
        )
    if not named_classes(root, classes):
        yield Finding("no-classes", "known", f"no {FILE}: the classes are counted, not named", f"write {root / FILE}")
    if (shared := shared_colour(classes)) and (root / FILE).is_file() and not _coloured(looks):
        yield Finding(
            "same-colour",
            "doubtful",
            f"two classes of the same colour: {shared[0]} and {shared[1]} are both {shared[2]}",
            f"give each class a colour of its own in the palette of {FILE}",
        )
    absent = [name for name, count in zip(names, total, strict=True) if not count]
    if absent and total.any():
        yield Finding(
            "absent-class",
            "doubtful",
            f"classes that no mask holds: {_some(absent)}",
            f"take them out of {FILE}, or look whether their labels or colours are the right ones"
            if (root / FILE).is_file()
            else "add photos that show them, or look whether their labels are the right ones",
        )
    if "train" in splits:
        yield from _of_training(names, splits)
    for split, summary in splits.items():
        if _MUCH_IGNORED < summary.ignored_share < 1:
            yield Finding(
                "much-ignored",
                "doubtful",
                f"{summary.ignored_share:.0%} of the pixels of {split} do not count",
                "look whether the label of void is a class",
            )


def _coloured(looks: Looks) -> bool:
    return any("shared-colour" in look.problems for split in looks.values() for look in split)


def _without_lesson(
    root: Path, datasets: dict[str, SegmentationDataset], looks: Looks, classes: Classes
) -> Iterator[Finding]:
    """What there is nothing to learn from, or to judge by: splits that are empty or void, and a single class."""
    empty = [split for split, of in looks.items() if not of]
    folders = {path.name for path in root.glob("images/*") if path.is_dir()} - {WHOLE}
    if any(dataset.layout == FOLDER.name for dataset in datasets.values()) and folders & datasets.keys():
        empty += [
            name for name in sorted(folders - datasets.keys()) if name in USUAL or masks_in(root / "masks" / name)
        ]
    if empty:
        yield Finding(
            "empty-split",
            "wrong",
            f"splits that hold no photos: {_some(empty)}",
            "put photos into them, or take their folders or lists away",
        )
    readable = {
        split: [look for look in of if look.counts.any() and not _MEANINGLESS & look.problems.keys()]
        for split, of in looks.items()
    }
    seen = {split: np.sum([look.counts for look in of], axis=0) for split, of in readable.items() if of}
    for split in ("train", "val", WHOLE):
        if split in seen and seen[split][classes.ignore_index] == seen[split].sum():
            yield Finding(
                "only-void",
                "wrong",
                f"no pixel of {split} counts: its masks hold {classes.ignore_index} alone",
                "look whether the label of void is a class, or label the photos",
            )
    counts = np.sum(list(seen.values()), axis=0) if seen else np.zeros(257, np.int64)
    present = np.flatnonzero(counts[: len(classes.names)])
    single = len(classes.names) == 1 or len(present) == 1
    if single and not black_and_white(looks, named_classes(root, classes)):
        name = classes.names[present[0] if len(present) else 0]
        yield Finding(
            "one-class",
            "wrong",
            f"the masks hold a single class, {name}: there is nothing to tell it from",
            "label the rest as a class too, such as background",
        )


def _of_training(names: tuple[str, ...], splits: dict[str, SplitSummary]) -> Iterator[Finding]:
    learnt = splits["train"].pixels
    judged = np.sum([split.pixels for name, split in splits.items() if name != "train"] or [learnt], axis=0)
    if unlearnt := [name for name, a, b in zip(names, learnt, judged, strict=True) if b and not a]:
        yield Finding(
            "never-learnt",
            "doubtful",
            f"classes that other splits hold and train does not: {_some(unlearnt)}",
            "their IoU will be 0: move some of their photos to train",
        )
    seen = learnt[learnt > 0]
    if len(seen) and seen.max() > _RARE * seen.min():
        rare = [name for name, count in zip(names, learnt, strict=True) if 0 < count < seen.max() / _RARE]
        yield Finding(
            "imbalance",
            "known",
            f"classes with less than a hundredth of the largest one's pixels: {_some(rare)}",
            "augment.class_crops: 0.5 shows each class as often; or class weights in the loss",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
