"""From what each photo and mask showed to what is wrong with the data set, and its mend."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from atrous.data.checking.duplicates import find_duplicates
from atrous.data.checking.findings import Finding, Severity, SplitSummary
from atrous.data.checking.labels import Looks, black_and_white, diagnose_classes, diagnose_labels, named_classes
from atrous.data.classes import FILE
from atrous.data.dataset import SegmentationDataset
from atrous.data.layouts.layout import photos_in
from atrous.data.masks import PictureMasks

# Splits that hold others by intention.
_WITHIN = {"trainval": ("train", "val"), "trainaug": ("train", "trainval")}

# What black and white masks look like, too.
_ALSO_WHITE = ("resampled", "thin-classes", "indices-as-colours")

# Of single files: kind → severity, what, mend, whether it is mechanical.
_OF_FILES: dict[str, tuple[Severity, str, str, bool]] = {
    "missing-mask": (
        "wrong",
        "photos without a mask",
        "label them or take them away; a mask has its photo's name: images/train/a.jpg, masks/train/a.png",
        True,
    ),
    "unreadable-photo": ("wrong", "photos that cannot be read", "replace them or take them away", True),
    "unreadable-mask": (
        "wrong",
        "masks that cannot be read",
        "write them again, or take them and their photos away",
        True,
    ),
    "other-size": (
        "wrong",
        "masks of another size than their photo",
        "resize the mask with nearest neighbour, never with interpolation, or export both again",
        True,
    ),
    "turned-mask": (
        "wrong",
        "masks of photos that lie on their side, which were drawn before the photo was turned upright (EXIF)",
        "turn the mask as the photo's EXIF orientation says",
        True,
    ),
    "indices-as-colours": (
        "wrong",
        "masks of class indices that are stored in RGB",
        "store one channel: Image.fromarray(mask[..., 0])",
        True,
    ),
    "unknown-colours": (
        "wrong",
        "masks with colours that are no class's",
        f"add them to the palette in {FILE}, or to its void_colours where they mean nothing",
        False,
    ),
    "shared-colour": (
        "wrong",
        "masks of colours, where two classes have the same",
        f"give each class a colour of its own in the palette of {FILE}, and draw the masks with it",
        False,
    ),
    "stray-colours": (
        "wrong",
        "colour-coded masks that were resized with interpolation or stored as JPEG",
        "export them again as PNG, resized with nearest neighbour; the nearest class's colour is a makeshift",
        True,
    ),
    "resampled": (
        "wrong",
        "masks that were resized with interpolation, or stored as JPEG: between two labels lie labels of other classes",
        "export them again as PNG, resized with nearest neighbour (cv2.INTER_NEAREST, PIL's NEAREST)",
        False,
    ),
    "thin-classes": (
        "doubtful",
        "masks in which many labels lie between two others: thin classes, or resized with interpolation",
        "look at them: if those labels are no outlines, export them again, resized with nearest neighbour",
        False,
    ),
}


def diagnose(
    root: Path, datasets: dict[str, SegmentationDataset], looks: Looks, splits: dict[str, SplitSummary]
) -> Iterator[Finding]:
    """Findings, the worst first."""
    white = black_and_white(looks, named_classes(root, next(iter(datasets.values())).classes))
    found = [
        *_of_files(looks, white),
        *diagnose_labels(datasets, looks),
        *_duplicates(looks),
        *_names(datasets),
        *diagnose_classes(root, datasets, looks, splits),
    ]
    order: tuple[Severity, ...] = ("wrong", "doubtful", "known")
    yield from sorted(found, key=lambda finding: order.index(finding.severity))


def _of_files(looks: Looks, white: bool) -> Iterator[Finding]:
    every = [look for split in looks.values() for look in split]
    # COCO's annotations are one file for many photos, and only the photo tells which of them is meant.
    shared = Counter(mask for mask, _ in {(look.mask, look.image) for look in every})
    for kind, (severity, what, mend, mechanical) in _OF_FILES.items():
        found = [look for look in every if kind in look.problems]
        if not found or (white and kind in _ALSO_WHITE):
            continue
        of_photo = kind in ("missing-mask", "unreadable-photo")
        files = tuple(dict.fromkeys(look.image if of_photo or shared[look.mask] > 1 else look.mask for look in found))
        detail = found[0].problems[kind] if kind != "missing-mask" else f"{found[0].mask} is missing"
        yield Finding(kind, severity, f"{what} ({detail})", mend, files, mechanical)


def _duplicates(looks: Looks) -> Iterator[Finding]:
    every = [(split, look) for split, of in looks.items() for look in of if look.thumbnail is not None]
    across: dict[Path, None] = {}
    within: dict[Path, None] = {}
    example = {"across": "", "within": ""}
    for i, j in find_duplicates([look.thumbnail for _, look in every if look.thumbnail is not None]):
        (one, first), (other, second) = every[i], every[j]
        if one in _WITHIN.get(other, ()) or other in _WITHIN.get(one, ()):
            continue
        pair, name = (within, "within") if one == other else (across, "across")
        pair |= {first.image: None, second.image: None}
        example[name] = example[name] or f"{first.image.name} of {one} is {second.image.name} of {other}"
    if across:
        yield Finding(
            "in-two-splits",
            "wrong",
            f"photos that are in two splits ({example['across']}): scores on one flatter what was trained on the other",
            "take them out of one of the two",
            tuple(across),
        )
    if within:
        yield Finding(
            "twice-in-a-split",
            "doubtful",
            f"photos that are twice in a split ({example['within']})",
            "take one of them away, above all if their masks differ",
            tuple(within),
        )


def _names(datasets: dict[str, SegmentationDataset]) -> Iterator[Finding]:
    """Masks without photos, and photos that share a mask."""
    if not all(isinstance(dataset.read_mask, PictureMasks) for dataset in datasets.values()):
        return
    known: set[Path] = set()
    shared: list[Path] = []
    for dataset in datasets.values():
        times = Counter(dataset.masks)
        known.update(times)
        shared += [image for image, mask in zip(dataset.images, dataset.masks, strict=True) if times[mask] > 1]
    if shared:
        yield Finding(
            "one-mask-for-two",
            "wrong",
            f"photos whose names differ in the suffix alone, and so have the same mask ({shared[0].name})",
            "give each photo a name of its own",
            tuple(shared),
        )
    orphans = [path for folder in sorted({mask.parent for mask in known}) for path in photos_in(folder)]
    if orphans := [path for path in orphans if path not in known]:
        yield Finding(
            "missing-photo",
            "doubtful",
            "masks without a photo, which nothing uses",
            "add the photo of that name, or take the mask away",
            tuple(orphans),
        )
