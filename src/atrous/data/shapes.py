"""Outlines and run lengths to pixels, as annotation tools store them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def fill_polygon(points: NDArray[np.float64], size: tuple[int, int]) -> Bools:
    """The pixels whose centres lie within a closed polygon, by the even-odd rule; a bool H×W array.

    Args:
        points: n×2, (x, y) in pixels, where the picture's top left pixel reaches from (0, 0) to (1, 1).
        size: (H, W).
    """
    height, width = size
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    # An edge crosses the rows whose centres lie between its ends; at each it turns all pixels to its right.
    low, high = np.minimum(y0, y1), np.maximum(y0, y1)
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(int)
    count = np.clip(np.ceil(high - 0.5), 0, height).astype(int) - first
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    x = x0[edge] + (row + 0.5 - y0[edge]) * slope
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(int)
    turns = np.zeros((height, width + 1), np.int32)
    np.add.at(turns, (row, column), 1)
    return (np.cumsum(turns, axis=1)[:, :width] & 1).astype(bool)


def polygon_area(points: NDArray[np.float64]) -> float:
    """What a closed polygon without crossing edges encloses; `points` as for `fill_polygon`."""
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def fill_runs(counts: Sequence[int], size: tuple[int, int]) -> Bools:
    """COCO's run lengths: of pixels outside and inside by turns, down the columns, from outside on.

    Raises:
        ValueError: they do not add up to the picture's pixels.
    """
    height, width = size
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels for a picture of {height * width}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def decode_runs(text: str) -> list[int]:
    """COCO's text form of run lengths: 5 bits a character; from the fourth on the change since the last but one.

    Raises:
        ValueError: it is not such a text.
    """
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place == len(text):
                raise ValueError("run lengths that end in the middle of a number")
            bits = ord(text[place]) - 48
            value |= (bits & 0x1F) << shift
            more = bool(bits & 0x20)
            shift += 5
            place += 1
            if not more and bits & 0x10:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts
