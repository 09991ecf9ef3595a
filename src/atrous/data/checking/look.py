"""One photo and its mask, as they are, without refusing anything."""

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
_MANY_COLOURS = 64
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
        kind = "stray-colours" if lossy or len(unknown) > _MANY_COLOURS else "unknown-colours"
        others = f" and {len(unknown) - 1:,} others mean" if len(unknown) > 1 else " means"
        problems[kind] = f"the colour {unknown[0]}{others} nothing"
        return np.full(picture.shape[:2], classes.ignore_index), tuple(unknown[:_MANY_COLOURS])
    labels = picture
    if reader.labels is not None and 0 <= picture.min(initial=0) <= picture.max(initial=0) < 256:
        labels = reader.labels[picture]
    elif between := _share_between(picture, classes.ignore_index):
        problems["resampled"] = f"{between:.0%} of its edges have a value between: it was resized with interpolation"
    if lossy:
        problems["resampled"] = "a JPEG, which blurs labels"
    return labels, ()


def _unknown_colours(packed: NDArray[np.int32], known: dict[Colour, int]) -> list[Colour]:
    """Colours that mean nothing, the most frequent first."""
    meant = [r << 16 | g << 8 | b for r, g, b in known]
    rest = packed[~np.isin(packed, meant)]
    colours, counts = np.unique(rest, return_counts=True)
    return [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in colours[np.argsort(-counts, kind="stable")]]


def _share_between(picture: NDArray[Any], ignore_index: int) -> float:
    """The share of edges at which a pixel's value lies between its neighbours'; 0 if as small as in sound masks."""
    step = max(1, picture.size // _LARGE)
    rows = picture[::step]
    edges = between = 0
    columns = picture[:, ::step]
    for before, here, after in (
        (rows[:, :-2], rows[:, 1:-1], rows[:, 2:]),
        (columns[:-2], columns[1:-1], columns[2:]),
    ):
        edge = (before != after) & (before != ignore_index) & (after != ignore_index)
        ramp = ((before < here) & (here < after)) | ((before > here) & (here > after))
        edges += int(edge.sum())
        between += int((ramp & edge).sum())
    share = between / edges if edges else 0.0
    return share if share > _BETWEEN else 0.0
