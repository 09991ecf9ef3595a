"""Bilinear upsampling fused with what follows it, on the CPU: labels, and the cross-entropy with its gradient.

Both walk over cells: the pixels between four neighbouring coarse positions. Logits come channels last, N×h×w×K, in
float32; a pixel's K values are combined from its cell's corners in registers and used up at once.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.ops.compiled import njit
from atrous.ops.lanes import LANES, fill, load, maximum, on_line, store_whole, where_larger
from atrous.ops.softmax_cpu import blend, exponentials
from atrous.ops.taps import Taps, arrays, bilinear_taps
from atrous.ops.threads import split

Floats = NDArray[np.float32]

_PIXELS_FOR_THREADS = 1 << 23
_STEP = 2 * LANES  # pixels whose labels are found at once


class Side(NamedTuple):
    """Where the pixels along a side lie, and where those begin that share a coarse index; behind the last, the end."""

    taps: Taps[NDArray[Any]]
    starts: NDArray[np.int64]


class Pixels(NamedTuple):
    """What the pixels are, and where: N×H×W classes, the weight of each class, and the pixels' places."""

    target: NDArray[Any]
    ignore_index: int
    class_weights: Floats
    rows: Side
    columns: Side


@lru_cache(maxsize=64)  # found anew for each photo, they would take longer than a small photo's labels
def side(size: int, coarse: int, align_corners: bool, kept: int) -> Side:
    """The first `kept` of `size` pixels over `coarse` logits; not to be written to."""
    taps = bilinear_taps(size, coarse, align_corners, torch.device("cpu"))
    lower, upper, weight = arrays(Taps(*(each[:kept] for each in taps)))
    return Side(Taps(lower, upper, weight), np.flatnonzero(np.diff(lower, prepend=-1, append=lower[-1] + 1)))


def label(logits: Floats, rows: Side, columns: Side) -> NDArray[np.uint8]:
    """The class of the largest upsampled logit at each pixel, the lowest where several are equal.

    Args:
        logits: N×h×w×K.
    """
    labels = np.empty((len(logits), len(rows.taps.lower), len(columns.taps.lower)), np.uint8)
    count = len(rows.starts) - 1

    def work(start: int, stop: int) -> None:
        _label_bands(logits, *rows.taps, *columns.taps, rows.starts, columns.starts, labels, start, stop)

    # Torch's threads sleep while another runtime has the network, and one that sleeps may take 8 ms to come: for less
    # than some 20 ms of ours it is quicker not to ask for more than one.
    if labels.size < _PIXELS_FOR_THREADS:
        work(0, len(logits) * count)
    else:
        split(len(logits) * count, work)
    return labels


def cross_entropy(
    logits: Floats, classes: int, pixels: Pixels, losses: Floats | None, least: float, with_gradient: bool
) -> tuple[float, float, Floats]:
    """Sums over the pixels that count, and the sum's gradient.

    Args:
        logits: N×h×w×K', the classes beyond `classes` far below all others.
        losses: N×H×W, filled with each pixel's loss, 0 where it is ignored; None if nobody asks.
        least: pixels whose loss is smaller do not count.

    Returns:
        The weighted sum of losses, the sum of their weights, and the former's gradient N×h×w×K' (empty if not asked).
    """
    n, h, w, padded = logits.shape
    rows, bands = pixels.rows
    count = len(bands) - 1
    gradient = np.zeros(logits.shape if with_gradient else (n, h, 0, padded), np.float32)
    loss_map = np.empty((0, 0, 0), np.float32) if losses is None else losses

    def work(start: int, stop: int) -> tuple[float, float, int, Floats]:
        # Two parts meet in a coarse row, so each sums its own rows, counted through the batch.
        first = start // count * h + int(rows.lower[bands[start % count]])
        last = (stop - 1) // count * h + int(rows.upper[bands[(stop - 1) % count]])
        part = np.zeros((last - first + 1, w if with_gradient else 0, padded), np.float32)
        sums = _cross_entropy_bands(
            logits, classes, *pixels[:3], *rows, *pixels.columns.taps, bands, part, first, loss_map, least, start, stop
        )
        return *sums, first, part

    loss = total = 0.0
    flat = gradient.reshape(n * h, w if with_gradient else 0, padded)
    for part_loss, part_total, first, part in split(n * count, work):
        loss += part_loss
        total += part_total
        flat[first : first + len(part)] += part
    return loss, total, gradient


@njit(nogil=True, cache=True, error_model="numpy")
def _label_bands(  # type: ignore[no-untyped-def]
    logits, y0, y1, wy, x0, x1, wx, bands, cells, labels, start, stop
):
    classes = logits.shape[3]
    count = len(bands) - 1
    winners, agreed = np.empty((2, logits.shape[2]), np.int64), np.empty(len(cells) - 1, np.int64)
    rivals, names = np.empty(classes, np.uint8), np.zeros(classes + 1, np.float32)
    left, left_fall, right, right_fall = np.empty((4, classes), np.float32)
    width = len(x0)
    along = np.zeros(width + _STEP, np.float32)
    along[:width] = wx
    flat_labels, end = labels.reshape(-1), np.empty(_STEP, np.uint8)
    for flat in range(start, stop):
        image, band = flat // count, flat % count
        top, bottom = bands[band], bands[band + 1]
        above, below = logits[image, y0[top]], logits[image, y1[top]]
        if flat > start and band > 0 and y0[top] == y1[top - 1]:
            winners[0] = winners[1]
        else:
            _largest(above, winners[0])
        _largest(below, winners[1])
        _agreed(winners, x0, x1, cells, agreed)
        following = 0
        while following < len(cells) - 1:
            cell = following
            following += 1
            first, winner = cells[cell], agreed[cell]
            if winner >= 0:
                # A class that is largest at all four corners is largest at every mean of them.
                while following < len(cells) - 1 and agreed[following] == winner:
                    following += 1
                for y in range(top, bottom):
                    labels[image, y, first : cells[following]] = winner
                continue
            last = cells[following]
            a, b = x0[first], x1[first]
            above_a, above_b, below_a, below_b = above[a], above[b], below[a], below[b]
            # Nor can a class win that is nowhere above some other class's least corner.
            least = np.float32(-np.inf)
            for k in (winners[0, a], winners[0, b], winners[1, a], winners[1, b]):
                least = max(least, min(min(above_a[k], above_b[k]), min(below_a[k], below_b[k])))
            for k in range(classes):
                rivals[k] = max(max(above_a[k], above_b[k]), max(below_a[k], below_b[k])) >= least
            kept = 0
            for k in range(classes):
                names[kept] = k
                kept += rivals[k]
            for j in range(kept):
                k = int(names[j])
                left[j], left_fall[j] = above_a[k], below_a[k] - above_a[k]
                right[j], right_fall[j] = above_b[k], below_b[k] - above_b[k]
            for y in range(top, bottom):
                weight = wy[y]
                row = (image * labels.shape[1] + y) * width
                for x in range(first, last, _STEP):
                    near, far = load(along, x), load(along, x + LANES)
                    best_near = best_far = fill(np.float32(-np.inf))
                    name_near = name_far = fill(names[0])
                    for j in range(kept):
                        start_value = left[j] + weight * left_fall[j]
                        origin, slope = fill(start_value), fill(right[j] + weight * right_fall[j] - start_value)
                        name = fill(names[j])
                        value = on_line(origin, slope, near)
                        name_near = where_larger(value, best_near, name, name_near)
                        best_near = maximum(value, best_near)
                        value = on_line(origin, slope, far)
                        name_far = where_larger(value, best_far, name, name_far)
                        best_far = maximum(value, best_far)
                    # What is written beyond this cell is the next one's, which comes later; behind the last is none.
                    inside = x + _STEP <= width
                    into, place = (flat_labels, row + x) if inside else (end, 0)
                    store_whole(into, place, name_near)
                    store_whole(into, place + LANES, name_far)
                    if not inside:
                        flat_labels[row + x : row + width] = end[: width - x]


@njit(nogil=True, error_model="numpy")
def _largest(row, winners):  # type: ignore[no-untyped-def]
    """The class of the largest logit at each position of a coarse row, the lowest of equal ones."""
    for x in range(row.shape[0]):
        best, largest = 0, row[x, 0]
        for k in range(1, row.shape[1]):
            higher = row[x, k] > largest
            best = k if higher else best
            largest = row[x, k] if higher else largest
        winners[x] = best


@njit(nogil=True, error_model="numpy")
def _agreed(winners, x0, x1, cells, agreed):  # type: ignore[no-untyped-def]
    """The class that is largest at all four corners of a cell, -1 where there is none."""
    for cell in range(len(agreed)):
        a, b = x0[cells[cell]], x1[cells[cell]]
        winner = winners[0, a]
        same = winners[0, b] == winner and winners[1, a] == winner and winners[1, b] == winner
        agreed[cell] = winner if same else -1


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
def _cross_entropy_bands(  # type: ignore[no-untyped-def]
    logits, classes, target, ignore_index, weights, y0, y1, wy, x0, x1, wx, bands, gradient, origin, losses, least,
    start, stop
):  # fmt: skip
    _, h, w, padded = logits.shape
    count = len(bands) - 1
    with_gradient, with_losses = gradient.shape[1] > 0, losses.shape[0] > 0
    row, row_gradient = np.empty((w, padded), np.float32), np.empty((w, padded), np.float32)
    largest, e = np.empty(w, np.float32), np.empty(padded, np.float32)
    loss = total = 0.0
    for flat in range(start, stop):
        image, band = flat // count, flat % count
        above, below = y0[bands[band]], y1[bands[band]]
        upper, lower = image * h + above - origin, image * h + below - origin
        for y in range(bands[band], bands[band + 1]):
            blend(logits[image, above], logits[image, below], wy[y], row, largest)
            if with_gradient:
                row_gradient[:] = 0
            for x in range(len(x0)):
                index = target[image, y, x]
                if index == ignore_index:
                    if with_losses:
                        losses[image, y, x] = 0
                    continue
                a, b, right = x0[x], x1[x], wx[x]
                total_exp, bound = exponentials(row, largest, a, b, right, e)
                own = row[a, index] + right * (row[b, index] - row[a, index])
                pixel = np.log(total_exp) + bound - own
                if with_losses:
                    losses[image, y, x] = pixel
                if pixel < least:
                    continue
                share = weights[index]
                loss += share * pixel
                total += share
                if with_gradient:
                    scale = share / total_exp
                    at_right = right * scale
                    at_left = scale - at_right
                    for k in range(padded):
                        row_gradient[a, k] += at_left * e[k]
                    for k in range(padded):
                        row_gradient[b, k] += at_right * e[k]
                    row_gradient[a, index] -= share * (1 - right)
                    row_gradient[b, index] -= share * right
            if with_gradient:
                for x in range(w):
                    for k in range(padded):
                        value = row_gradient[x, k]
                        gradient[upper, x, k] += (1 - wy[y]) * value
                        gradient[lower, x, k] += wy[y] * value
    return loss, total
