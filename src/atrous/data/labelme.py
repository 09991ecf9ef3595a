"""Labelme's annotations: one JSON file a photo, with named outlines."""

import base64
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.classes import Classes, named
from atrous.data.shapes import fill_polygon
from atrous.errors import DataError

Array = NDArray[np.uint8]

BACKGROUND = "background"
_BACKGROUNDS = (BACKGROUND, "_background_")
_IGNORED = ("__ignore__", "void", "unlabeled", "unlabelled")
_CIRCLE = 64  # corners of the polygon that stands for one


@dataclass(frozen=True)
class LabelmeMasks:
    """Draws a photo's outlines in the order of the file, later ones over earlier ones.

    What no outline covers is the background where that is a class, and else ignored. Outlines named "__ignore__",
    "void" or "unlabeled" are ignored.
    """

    classes: Classes

    def __call__(self, _image: Path, mask: Path) -> Array:
        size, shapes = read_shapes(mask)
        labels = np.full(size, fill_label(self.classes), np.uint8)
        for number, shape in enumerate(shapes, 1):
            label = self._label(mask, str(shape["label"]))
            try:
                labels[_cover(shape, size)] = label
            except KeyError as error:
                raise DataError(f"{mask}: its shape {number} has no {error.args[0]!r}: draw it again") from error
            except (TypeError, ValueError, IndexError, OSError, Image.DecompressionBombError) as error:
                reason = " ".join(str(error).split())
                raise DataError(f"{mask}: its shape {number} cannot be drawn ({reason}): draw it again") from error
        return labels

    def _label(self, path: Path, name: str) -> int:
        if name in _IGNORED:
            return self.classes.ignore_index
        if name in _BACKGROUNDS:
            return fill_label(self.classes)
        if name not in self.classes.names:
            raise DataError(f"{path}: names {name!r}, which is none of the classes: {', '.join(self.classes.names)}")
        return self.classes.names.index(name)


def labelme_classes(paths: Iterable[Path], root: Path) -> Classes:
    """The background, and behind it every name that the files hold, in the alphabet's order.

    Files that cannot be read are passed over; whoever needs them is told.

    Raises:
        DataError: none of them can be read, or they hold more names than labels can tell apart.
    """
    names: set[str] = set()
    read, wrong = 0, None
    for path in paths:
        try:
            names |= {str(shape["label"]) for shape in read_shapes(path)[1]}
            read += 1
        except DataError as error:
            wrong = wrong or error
    if wrong is not None and not read:
        raise wrong
    return named((BACKGROUND, *sorted(names.difference(_BACKGROUNDS, _IGNORED))), root)


def read_shapes(path: Path) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """What a file of Labelme's holds: the photo's (height, width), and its shapes, each with a label.

    Raises:
        DataError: something is missing.
    """
    values = read_annotation(path)
    sizes = values.get("imageHeight"), values.get("imageWidth")
    if not all(isinstance(size, (int, float)) and size >= 1 for size in sizes):
        raise DataError(f"{path}: not Labelme's annotations (no imageHeight and imageWidth)")
    shapes = values.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(f"{path}: not Labelme's annotations (no list 'shapes')")
    for number, shape in enumerate(shapes, 1):
        if not isinstance(shape, dict) or "label" not in shape:
            raise DataError(f"{path}: its shape {number} has no label: name it")
    return (int(values["imageHeight"]), int(values["imageWidth"])), shapes


def fill_label(classes: Classes) -> int:
    """The label of pixels that no annotation covers."""
    return next((classes.names.index(name) for name in _BACKGROUNDS if name in classes.names), classes.ignore_index)


def read_annotation(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        DataError: it does not.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as annotations ({error})") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: cannot be read as annotations (no JSON object)")
    return values


def _cover(shape: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a shape; none of a point or a line."""
    kind = shape.get("shape_type") or "polygon"
    points = np.array(shape["points"], np.float64).reshape(-1, 2)
    if not len(points):
        raise ValueError("it has no points")
    if not np.isfinite(points).all():
        raise ValueError("its points are no numbers")
    if kind == "rectangle":  # of two corners, or of four
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif kind == "circle":
        centre, rim = points
        angles = np.arange(_CIRCLE) * (2 * np.pi / _CIRCLE)
        points = centre + np.linalg.norm(rim - centre) * np.stack((np.cos(angles), np.sin(angles)), 1)
    elif kind == "mask":
        return _pasted(base64.b64decode(shape["mask"]), points[0], size)
    elif kind != "polygon":
        return np.zeros(size, bool)
    return fill_polygon(points, size)


def _pasted(png: bytes, corner: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A stored patch at its place in the picture."""
    patch = np.array(Image.open(io.BytesIO(png)).convert("1"))
    left, top = np.rint(corner).astype(int)
    whole = np.zeros(size, bool)
    place = whole[top : top + patch.shape[0], left : left + patch.shape[1]]
    place[:] = patch[: place.shape[0], : place.shape[1]]
    return whole
