"""A photo with its labels laid over it in colour."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

_STRIP_PIXELS = 1 << 22  # what is blended at once, and so the size of the temporary arrays

Palette = NDArray[np.uint8] | Sequence[Sequence[int]]


def overlay(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], palette: Palette, alpha: float = 0.5
) -> NDArray[np.uint8]:
    """The photo with each pixel drawn towards the colour of its label.

    Args:
        image: uint8 H×W×3, RGB.
        labels: uint8 H×W.
        palette: n×3, 0 to 255: the colour of labels 0 to n - 1. Pixels of other labels (255, "void") keep
            the photo's colour.
        alpha: the colour's share, from 0 (the photo as it is) to 1 (the colours alone).

    Returns:
        A new uint8 H×W×3 array. Besides it only a few strips of rows are held.

    Raises:
        AtrousError: sizes that do not agree, a palette that is none, an alpha outside 0 to 1.
    """
    blended = np.empty_like(image, order="C")
    rows = max(1, _STRIP_PIXELS // max(1, image.shape[1]))
    top = 0
    for strip in overlay_strips(image, labels, palette, alpha, rows):
        blended[top : top + len(strip)] = strip
        top += len(strip)
    return blended


def overlay_strips(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], palette: Palette, alpha: float, rows: int
) -> Iterator[NDArray[np.uint8]]:
    """`overlay`, in successive strips of `rows` rows, for a writer that never needs the whole."""
    table, count = _table(palette)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise AtrousError(f"an overlay needs a uint8 H×W×3 image, not {image.dtype} {image.shape}")
    if labels.dtype != np.uint8 or labels.shape != image.shape[:2]:
        raise AtrousError(
            f"an overlay needs uint8 labels of the image's size {image.shape[:2]}, not {labels.dtype} {labels.shape}"
        )
    if not 0 <= alpha <= 1:
        raise AtrousError(f"alpha is the colour's share, from 0 to 1: {alpha} was given")
    return _blend(image, labels, table, count, alpha, rows)


def _blend(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    table: NDArray[np.uint8],
    count: int,
    alpha: float,
    rows: int,
) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, len(image), rows):
        photo = np.ascontiguousarray(image[top : top + rows])
        strip = np.ascontiguousarray(labels[top : top + rows])
        colours = cv2.applyColorMap(strip, table)
        blended: NDArray[np.uint8] = cv2.addWeighted(photo, 1 - alpha, colours, alpha, 0)
        if strip.max(initial=0) >= count:
            np.copyto(blended, photo, where=(strip >= count)[..., None])
        yield blended


def _table(palette: Palette) -> tuple[NDArray[np.uint8], int]:
    """The palette as the 256×1×3 table that cv2 looks colours up in, and its own length."""
    colours = np.asarray(palette)
    if colours.ndim != 2 or colours.shape[1] != 3 or not 1 <= len(colours) <= 256:
        raise AtrousError(f"a palette is n×3 with n from 1 to 256, not of shape {colours.shape}")
    if not np.issubdtype(colours.dtype, np.integer) or colours.min() < 0 or colours.max() > 255:
        raise AtrousError("a palette's colours are whole numbers from 0 to 255")
    table = np.zeros((256, 1, 3), dtype=np.uint8)
    table[: len(colours), 0] = colours
    return table, len(colours)
