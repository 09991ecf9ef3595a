"""Masks that are pictures: of class indices, grey or with a palette, or with a colour for each class."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.classes import Colour
from atrous.data.classes import FILE, Classes, shared_colour
from atrous.data.image import open_stored
from atrous.errors import DataError, ImageError

Array = NDArray[np.uint8]

_UNKNOWN = -1


@dataclass(frozen=True)
class PictureMasks:
    """Reads a mask picture as labels.

    Attributes:
        classes: what the labels mean; colours other than theirs are refused.
        labels: what a stored index means, where that is not the label itself: 256 entries.
        colours: what a colour means, where that is not the palette's class.
    """

    classes: Classes
    labels: Array | None = None
    colours: Mapping[Colour, int] = field(default_factory=dict)

    def __call__(self, _image: Path, mask: Path) -> Array:
        picture = read_picture(mask)
        if picture.ndim == 3:
            return self._from_colours(mask, picture)
        if picture.max(initial=0) > 255:
            raise DataError(f"{mask}: holds the label {picture.max()}; labels end at 255")
        if picture.min(initial=0) < 0:
            raise DataError(f"{mask}: holds the label {picture.min()}; labels begin at 0")
        indices = picture.astype(np.uint8, copy=False)
        return indices if self.labels is None else self.labels[indices]

    def known_colours(self) -> dict[Colour, int]:
        """Every colour that means something, and its label."""
        if self.colours:
            return dict(self.colours)
        void = dict.fromkeys(self.classes.void_colours, self.classes.ignore_index)
        return {**void, **{colour: index for index, colour in enumerate(self.classes.palette)}}

    def _from_colours(self, path: Path, picture: Array) -> Array:
        if not self.colours and (shared := shared_colour(self.classes)):
            one, other, colour = shared
            raise DataError(f"{path}: is of colours, and {one} and {other} have the same, {colour}: mend {FILE}")
        packed = pack_colours(picture)
        labels = _label_table(tuple(self.known_colours().items()))[packed]
        if labels.min(initial=0) == _UNKNOWN:
            first = int(packed[labels == _UNKNOWN][0])
            raise DataError(
                f"{path}: holds the colour ({first >> 16}, {first >> 8 & 255}, {first & 255}), which is no class's: "
                "`atrous data check` tells more of what is wrong"
            )
        return labels.astype(np.uint8)


@lru_cache(maxsize=4)
def _label_table(labels: tuple[tuple[Colour, int], ...]) -> NDArray[np.int16]:
    """A label for each of the 2**24 colours: a look into a table costs the same for any number of classes."""
    table = np.full(1 << 24, _UNKNOWN, np.int16)
    for (r, g, b), label in labels:
        table[r << 16 | g << 8 | b] = label
    return table


def read_picture(path: Path) -> NDArray[Any]:
    """A mask picture as it is stored: H×W indices, or uint8 H×W×3 colours.

    Raises:
        DataError: not there, or not a picture.
    """
    try:
        with path.open("rb") as file, open_stored(file) as image:
            if image.mode in ("P", "L", "I") or image.mode.startswith("I;16"):
                return np.array(image)
            if image.mode == "1":
                return np.array(image).astype(np.uint8)
            if image.mode == "LA":
                return np.array(image)[..., 0]
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except (ImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a mask ({' '.join(str(error).split())})") from error


def pack_colours(picture: Array) -> NDArray[np.int32]:
    """uint8 H×W×3 to H×W numbers, red in the highest bits."""
    wide = picture.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
