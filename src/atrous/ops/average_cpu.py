"""The mean softmax over views on the CPU: a pixel's classes are combined, exponentiated and added in registers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from atrous.ops.compiled import njit
from atrous.ops.softmax_cpu import blend, exponentials, padded_channels_last
from atrous.ops.taps import arrays
from atrous.ops.threads import split

if TYPE_CHECKING:
    from atrous.ops.average import View

_ROWS = 16  # summed at a time: of 2,048 pixels and 24 classes they are 3 MB


def average(groups: Sequence[Sequence["View"]], labels: Tensor, probabilities: Tensor | None) -> None:
    """Fills `labels` N×H×W and, if they are asked for, `probabilities` N×K×H×W."""
    n, height, width = labels.shape
    classes = groups[0][0].logits.shape[1]
    prepared = [_prepare(group) for group in groups]
    padded = prepared[0][0].shape[4]
    share = np.float32(1 / sum(len(group) for group in groups))
    kept = np.empty((0, 0, 0, 0), np.float32) if probabilities is None else probabilities.numpy()

    def work(start: int, stop: int) -> None:
        sums = np.empty((_ROWS, width, padded), np.float32)
        for flat in range(start, stop):
            image, strip = divmod(flat, strips)
            top = strip * _ROWS
            bottom = min(top + _ROWS, height)
            sums[:] = 0
            for group in prepared:
                _add(sums, image, top, bottom, *group)
            _settle(sums, image, top, bottom, classes, share, labels.numpy(), kept)

    strips = -(-height // _ROWS)
    split(n * strips, work)


def _prepare(group: Sequence["View"]) -> tuple[Any, ...]:
    """V×N×h×w×K' logits, the rows that the views share, and each view's columns."""
    logits = np.stack([padded_channels_last(view.logits) for view in group])
    rows = arrays(group[0].rows)
    columns = (
        np.stack([each.numpy() for each in several]) for several in zip(*(v.columns for v in group), strict=True)
    )
    return (logits, *rows, *columns)


@njit(nogil=True, cache=True, error_model="numpy")
def _add(sums, image, top, bottom, logits, y0, y1, wy, x0, x1, wx):  # type: ignore[no-untyped-def]
    """Adds the probabilities of a group's views, which are summed first.

    The views go through the same instructions one after another, and the additions keep this very order, which fast
    arithmetic would not: two views can be exchanged and give the same sum to the last bit.
    """
    views, _, _, w, padded = logits.shape
    row, largest = np.empty((w, padded), np.float32), np.empty(w, np.float32)
    found = np.empty((views, x0.shape[1], padded), np.float32)
    for y in range(top, bottom):
        for view in range(views):
            above, below = logits[view, image, y0[y]], logits[view, image, y1[y]]
            _probabilities(above, below, wy[y], x0[view], x1[view], wx[view], row, largest, found[view])
        into = sums[y - top]
        if views == 2:
            for x in range(into.shape[0]):
                for k in range(padded):
                    into[x, k] += found[0, x, k] + found[1, x, k]
        else:
            for x in range(into.shape[0]):
                for k in range(padded):
                    into[x, k] += found[0, x, k]


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
def _probabilities(above, below, weight, x0, x1, wx, row, largest, found):  # type: ignore[no-untyped-def]
    """Fills `found` W×K' with the softmax of a row of pixels."""
    blend(above, below, weight, row, largest)
    for x in range(len(x0)):
        e = found[x]
        total, _ = exponentials(row, largest, x0[x], x1[x], wx[x], e)
        scale = np.float32(1) / total
        for k in range(len(e)):
            e[k] *= scale


@njit(nogil=True, cache=True, error_model="numpy")
def _settle(sums, image, top, bottom, classes, share, labels, probabilities):  # type: ignore[no-untyped-def]
    """The means, kept where there is room for them, and the class of the largest, the lowest of equal ones."""
    for y in range(top, bottom):
        for x in range(labels.shape[2]):
            values = sums[y - top, x]
            values *= share
            best = 0
            for k in range(1, classes):
                if values[k] > values[best]:
                    best = k
            labels[image, y, x] = best
        if probabilities.shape[0] > 0:
            for k in range(classes):
                for x in range(labels.shape[2]):
                    probabilities[image, k, y, x] = sums[y - top, x, k]
