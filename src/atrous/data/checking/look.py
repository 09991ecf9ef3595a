"""One photo and its mask, as they are, without refusing anything."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.classes import Colour
from atrous.data.classes import shared_colour
from atrous.data.dataset import SegmentationDataset
from atrous.data.image import read_image, read_orientation
from atrous.data.masks import PictureMasks, pack_colours, read_picture
from atrous.errors import AtrousError, DataError

Array = NDArray[np.uint8]

THUMBNAIL = 16
_BETWEEN = 0.05
"""The share of edges with a value between, from which on a mask was resampled: nearest CamVid masks have up to .014,
those resized with bilinear or area interpolation .10 and more."""
_IN_A_ROW = 0.25
"""The share of such edges that follow on one another, from which on they are no thin class's."""
_MANY_BETWEEN = 4
"""So many values that each make up .05 of what lies between others are no thin classes: of CamVid's masks at half or
three quarters of their size, with bilinear or area interpolation, eight in nine have 5 to 9."""
_MANY_COLOURS = 64
_NEAR = 32.0  # levels by which JPEG and rounding shift a colour
_PRESENT = 0.002  # the share of the pixels from which on a class's colour is there
_LOOKED_AT = 4096  # colours of a mask
_LARGE = 1 << 20  # pixels, from which on every so manieth row is looked at


@dataclass(frozen=True)
class Look:
    """What a pair of files shows.

    Attributes:
        problems: kind of finding → what there is to say of it.
        size: the photo's (height, width), upright.
        counts: 257: how many pixels have each label, the last those below 0 or beyond 255.
        colours: colours of the mask that mean nothing, if it is of colours.
        thumbnail: the photo as 16×16×3, to find it again in other splits.
    """

    image: Path
    mask: Path
    problems: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(257, np.int64))
    colours: tuple[Colour, ...] = ()
    thumbnail: Array | None = None


def look_at(dataset: SegmentationDataset, index: int) -> Look:
    """The pair with that number; every problem that it has is in the result."""
    image, mask = dataset.images[index], dataset.masks[index]
    problems: dict[str, str] = {}
    size, thumbnail, turned = None, None, None
    try:
        photo = read_image(image)
        size = photo.shape[:2]
        thumbnail = np.asarray(cv2.resize(photo, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
        if size[0] != size[1]:
            turned = size[::-1] if read_orientation(image) > 4 else None
        del photo
    except AtrousError as error:
        problems["unreadable-photo"] = str(error)
    if not mask.is_file():
        problems["missing-mask"] = str(mask)
        return Look(image, mask, problems, size, thumbnail=thumbnail)
    try:
        if isinstance(dataset.read_mask, PictureMasks):
            labels, colours = _look_at_picture(dataset.read_mask, mask, problems)
        else:
            labels, colours = dataset.read_mask(image, mask), ()
    except DataError as error:
        problems["unreadable-mask"] = str(error)
        return Look(image, mask, problems, size, thumbnail=thumbnail)
    if size is not None and labels.shape != size:
        shapes = f"{labels.shape[1]}×{labels.shape[0]}, its photo {size[1]}×{size[0]}"
        problems["turned-mask" if labels.shape == turned else "other-size"] = shapes
    flat = labels.reshape(-1).astype(np.int64)
    counts = np.bincount(np.where((flat < 0) | (flat > 255), 256, flat), minlength=257)
    return Look(image, mask, problems, size, counts, colours, thumbnail)


def _look_at_picture(
    reader: PictureMasks, path: Path, problems: dict[str, str]
) -> tuple[NDArray[Any], tuple[Colour, ...]]:
    """The labels as far as they mean something, and the colours that mean nothing."""
    picture = read_picture(path)
    classes = reader.classes
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    if picture.ndim == 3:
        if not reader.colours and (shared := shared_colour(classes)):
            problems["shared-colour"] = f"{shared[0]} and {shared[1]} are both {shared[2]}"
            return np.full(picture.shape[:2], classes.ignore_index), ()
        known = reader.known_colours()
        packed = pack_colours(picture)
        unknown = _unknown_colours(packed, known)
        if not unknown:
            return reader(path, path), ()
        grey = np.ptp(picture, axis=2).max() == 0
        values = np.unique(picture[..., 0]) if grey else np.zeros(0, np.uint8)
        if grey and all(value < len(classes.names) or value == classes.ignore_index for value in values):
            problems["indices-as-colours"] = "its colours are (0, 0, 0), (1, 1, 1) and so on: class indices"
            return picture[..., 0], ()
        blurred = (lossy or len(unknown) > _MANY_COLOURS) and _near_classes(packed, list(known))
        kind = "stray-colours" if blurred else "unknown-colours"
        others = f" and {len(unknown) - 1:,} others mean" if len(unknown) > 1 else " means"
        problems[kind] = f"the colour {unknown[0]}{others} nothing"
        return np.full(picture.shape[:2], classes.ignore_index), tuple(unknown[:_MANY_COLOURS])
    labels = picture
    if reader.labels is not None and 0 <= picture.min(initial=0) <= picture.max(initial=0) < 256:
        labels = reader.labels[picture]
    elif between := _ramps_between(picture, len(classes.names), classes.ignore_index):
        said = f"{between.share:.0%} of its edges have a value between"
        if between.interpolated:
            problems["resampled"] = f"{said}: it was resized with interpolation"
        else:
            problems["thin-classes"] = said
    if lossy:
        problems["resampled"] = "a JPEG, which blurs labels"
    return labels, ()


def _unknown_colours(packed: NDArray[np.int32], known: dict[Colour, int]) -> list[Colour]:
    """Colours that mean nothing, the most frequent first."""
    meant = [r << 16 | g << 8 | b for r, g, b in known]
    rest = packed[~np.isin(packed, meant)]
    colours, counts = np.unique(rest, return_counts=True)
    return [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in colours[np.argsort(-counts, kind="stable")]]


@dataclass(frozen=True)
class _Ramps:
    """Edges at which a pixel's value lies between its neighbours'.

    Attributes:
        share: how many of the edges are such.
        interpolated: whether no thin class explains them.
    """

    share: float
    interpolated: bool


def _ramps_between(picture: NDArray[Any], classes: int, ignore_index: int) -> _Ramps | None:
    """What lies between the labels of a mask; None if as little as in sound masks.

    A class may be thin, as an outline is: then one value lies between, which is a class's, or one that has areas of its
    own elsewhere. Interpolation leaves labels beyond the classes, or several in a row, or several that have no areas,
    or many of those there are.
    """
    step = max(1, picture.size // _LARGE)
    edges = ramps = rows_of_two = 0
    between: Counter[int] = Counter()
    for lines in (picture[::step], picture[:, ::step].T):
        before, here, after = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
        edge = (before != after) & (before != ignore_index) & (after != ignore_index)
        ramp = edge & (((before < here) & (here < after)) | ((before > here) & (here > after)))
        edges += int(edge.sum())
        ramps += int(ramp.sum())
        rows_of_two += int((ramp[:, 1:] & ramp[:, :-1]).sum())
        values, counts = np.unique(here[ramp], return_counts=True)
        between.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    if not edges or ramps <= _BETWEEN * edges:
        return None
    beyond = sum(count for value, count in between.items() if value >= classes and value != ignore_index)
    lost = {value: count for value, count in between.items() if value < classes and not _has_area(picture, value)}
    strange = beyond + (sum(lost.values()) if len(lost) > 1 else 0)
    spread = sum(count > _BETWEEN * ramps for count in between.values())
    return _Ramps(
        ramps / edges, strange > _BETWEEN * edges or rows_of_two > _IN_A_ROW * ramps or spread >= _MANY_BETWEEN
    )


def _has_area(picture: NDArray[Any], value: int) -> bool:
    """Whether a value fills some square of 3×3 pixels."""
    return bool(cv2.erode((picture == value).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).any())


def _near_classes(packed: NDArray[np.int32], known: Sequence[Colour]) -> bool:
    """Whether colours that mean nothing come of blurred ones: most pixels lie near a class's colour, and most of the
    others between two that are there."""
    colours, counts = np.unique(packed, return_counts=True)
    if len(colours) > _LOOKED_AT:
        frequent = np.argsort(-counts, kind="stable")[:_LOOKED_AT]
        colours, counts = colours[frequent], counts[frequent]
    points = np.stack((colours >> 16, colours >> 8 & 255, colours & 255), axis=1).astype(np.float32)
    classes = np.array(known, np.float32)
    far = np.sqrt(np.square(points[:, None] - classes).sum(axis=2))
    near = far.min(axis=1) <= _NEAR
    if 2 * counts[near].sum() < counts.sum():
        return False
    shares = np.bincount(far.argmin(axis=1)[near], counts[near], len(classes)) / counts.sum()
    present = classes[shares > _PRESENT]
    explained = near & (far.min(axis=1) > 0)
    for index, start in enumerate(present):
        for end in present[index + 1 :]:
            along = np.clip((points - start) @ (end - start) / np.square(end - start).sum(), 0, 1)
            explained |= np.square(points - start - along[:, None] * (end - start)).sum(axis=1) <= _NEAR**2
    unknown = far.min(axis=1) > 0
    return bool(2 * counts[explained & unknown].sum() >= counts[unknown].sum())
