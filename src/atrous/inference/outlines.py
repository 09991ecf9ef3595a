"""Walking the edges between pixels.

Only the corners of the outlines are looked for. In a row of the grid of pixel corners, the ends of the
horizontal edges follow each other in pairs, and so do those of the vertical edges in a column: sorting the
corners both ways links each to its two neighbours, with no pixel-by-pixel walk.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ring: TypeAlias = NDArray[np.int32]
"""n×2, (x, y) of its corners in order, the first not repeated; horizontal and vertical edges alternate."""


def trace(numbers: NDArray[np.int32]) -> dict[int, tuple[Ring, list[Ring]]]:
    """The outlines of numbered regions.

    Args:
        numbers: int32 H×W, each 4-connected region's own number, 0 outside every region. No two regions may
            share a pixel edge (they are of one class).

    Returns:
        For each number its outer ring, with a positive signed area (sum of x·y' - x'·y over its edges), and
        the rings around its holes, with negative ones. Holes are 4-connected like regions, so rings of a
        region may touch each other at a corner, and none touches itself.
    """
    padded = np.pad(numbers, 1)
    ys, xs, rightward, downward = _corners(padded)
    height, width = numbers.shape
    along = _partners((ys * (width + 1) + xs) * 2 + rightward).tolist()
    across = _partners((xs * (height + 1) + ys) * 2 + downward).tolist()

    regions: dict[int, tuple[Ring, list[Ring]]] = {}
    holes: list[tuple[int, Ring]] = []
    seen = bytearray(len(along))
    points = np.stack((xs, ys), axis=1).astype(np.int32)
    for first in range(len(along)):
        if seen[first]:
            continue
        order: list[int] = []
        corner = first
        while not seen[corner]:
            after = along[corner]
            seen[corner] = seen[after] = 1
            order += (corner, after)
            corner = across[after]
        # The first corner is the ring's highest, and of those the leftmost: what lies right below it is inside.
        ring = points[order]
        x, y = int(xs[first]), int(ys[first])
        inside = int(padded[y + 1, x + 1])
        if inside:
            regions[inside] = (ring, [])
        else:
            holes.append((int(padded[y, x + 1]), ring[::-1]))
    for number, ring in holes:
        regions[number][1].append(ring)
    return regions


def _corners(
    padded: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The corners of all rings in reading order: y, x, and whether the ring leaves them to the right, and down."""
    inside = padded > 0
    level = inside[:-1] != inside[1:]  # an edge between a pixel and the one below it
    upright = inside[:, :-1] != inside[:, 1:]
    left, right = level[:, :-1], level[:, 1:]
    up, down = upright[:-1], upright[1:]

    ys, xs = np.nonzero((left != right) & (up != down))
    crossing_ys, crossing_xs = np.nonzero(left & right & up & down)

    # Two rings meet where two pixels touch diagonally, and each takes two of the four edges. If the pixels are
    # of two regions, each ring keeps to its own pixel. If a way around joins them, the ring that keeps to its
    # pixel would meet itself here: the two that meet keep to the pixels outside instead, one of them in a hole.
    upper_left = padded[crossing_ys, crossing_xs]
    lower_right = padded[crossing_ys + 1, crossing_xs + 1]
    upper_right = padded[crossing_ys, crossing_xs + 1]
    lower_left = padded[crossing_ys + 1, crossing_xs]
    falling = upper_left > 0  # the two pixels lie upper left and lower right
    joined = np.where(falling, upper_left == lower_right, upper_right == lower_left)
    left_goes_up = falling != joined

    yes = np.ones(len(crossing_ys), dtype=np.bool_)
    all_ys = np.concatenate((ys, crossing_ys, crossing_ys))
    all_xs = np.concatenate((xs, crossing_xs, crossing_xs))
    rightward = np.concatenate((right[ys, xs], ~yes, yes))
    downward = np.concatenate((down[ys, xs], ~left_goes_up, left_goes_up))
    order = np.lexsort((all_xs, all_ys))
    return all_ys[order], all_xs[order], rightward[order], downward[order]


def _partners(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each corner the other end of its edge: in the order of the keys they are first and second, and so on."""
    order = np.argsort(keys)
    partners = np.empty_like(order)
    partners[order[0::2]] = order[1::2]
    partners[order[1::2]] = order[0::2]
    return partners
