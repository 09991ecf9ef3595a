"""A labelled data set as a folder: `images/<split>/`, `masks/<split>/`, `classes.json`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from atrous.data.image import IMAGE_SUFFIXES, read_image
from atrous.errors import DataError

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Classes:
    """What `classes.json` says: {"classes": […], "palette": [[r, g, b], …], "ignore_index": 255}."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int


class SegmentationFolder(Sequence[tuple[Array, Array]]):
    """Photos and their masks, in the order of their names.

    A mask is a PNG of class indices (palette or grey) with its photo's name and size; pixels of
    `ignore_index` are not judged. Item i is (image, mask): uint8 H×W×3 RGB and uint8 H×W.

    Raises:
        DataError: a folder, `classes.json` or a mask is missing, or does not fit; the message names it.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        self.root, self.split = Path(root), split
        self.classes = read_classes(self.root)
        folder = self.root / "images" / split
        if not folder.is_dir():
            raise DataError(f"{folder}: no such directory; a data set has images/<split> and masks/<split>")
        self.images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not self.images:
            raise DataError(f"{folder}: holds no images")
        self.masks = [self.root / "masks" / split / f"{path.stem}.png" for path in self.images]
        for image, mask in zip(self.images, self.masks, strict=True):
            if not mask.is_file():
                raise DataError(f"{image}: has no mask; {mask} is missing")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Array, Array]:  # type: ignore[override]
        image, mask = read_image(self.images[index]), self.mask(index)
        if mask.shape != image.shape[:2]:
            sizes = f"{mask.shape[1]}×{mask.shape[0]}, its photo {image.shape[1]}×{image.shape[0]}"
            raise DataError(f"{self.masks[index]}: is {sizes}; they must be the same size")
        return image, mask

    def mask(self, index: int) -> Array:
        """The label map of photo `index`: uint8 H×W, 0..K-1 or `ignore_index`."""
        path = self.masks[index]
        mask = _read_mask(path)
        seen = np.bincount(mask.reshape(-1), minlength=256).astype(bool)
        seen[self.classes.ignore_index] = False
        if seen[len(self.classes.names) :].any():
            worst = int(np.flatnonzero(seen)[-1])
            limits = f"0 to {len(self.classes.names) - 1} or {self.classes.ignore_index} (ignored)"
            raise DataError(f"{path}: holds the label {worst}; classes.json allows {limits}")
        return mask


def _read_mask(path: Path) -> Array:
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise DataError(f"{path}: a {image.mode} picture; a mask is a PNG of class indices (palette or grey)")
            return np.array(image).astype(np.uint8)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path}: cannot be read as a mask ({error})") from error


def read_classes(root: Path) -> Classes:
    """Reads `classes.json` of a data set."""
    path = root / "classes.json"
    if not root.is_dir():
        raise DataError(f"{root}: no such directory")
    if not path.is_file():
        raise DataError(
            f'{path}: missing; it holds {{"classes": [names], "palette": [[r, g, b]], "ignore_index": 255}}'
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for name in values["classes"])
        palette = tuple((int(r), int(g), int(b)) for r, g, b in values["palette"])
        ignore = int(values.get("ignore_index", 255))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of classes ({error!r})") from error
    if not names or len(names) != len(palette):
        raise DataError(f"{path}: {len(names)} classes and {len(palette)} palette colours; they must be as many")
    if not len(names) <= ignore <= 255:
        raise DataError(f"{path}: ignore_index {ignore} must lie behind the {len(names)} classes, at most 255")
    return Classes(names, palette, ignore)
