"""The four passes of a batch norm in training, over channels-last memory in float32 or bfloat16.

An N×C×H×W tensor is a table of N·H·W rows. Where C is small several rows count as one long row, so that the loops over
columns are worth their start; what is found for a long row's columns is put together at the end.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.ops.bfloat16 import as_numpy
from atrous.ops.compiled import njit
from atrous.ops.lanes import (
    LANES,
    add,
    add_product,
    clip,
    fill,
    kept_between,
    load,
    multiply,
    store,
    store_past_caches,
    subtract,
)
from atrous.ops.threads import split

if TYPE_CHECKING:
    from atrous.ops.batch_norm import Clip, Running

Floats = NDArray[np.float32]

_LONG = 256  # columns from which a row is long enough
_BLOCK = 16384  # numbers whose sums are taken in float32, and which stay in the nearest caches meanwhile
_LARGE = 16 << 20  # bytes of an output from which the next to read it finds little of it in a cache


class Table:
    """A tensor's numbers in channels-last order, as rows of channels.

    Attributes:
        numbers: all of them, in one row.
        group: how many rows make a long one; the rows divide by it.
        rows: how many long rows there are.
    """

    def __init__(self, x: Tensor) -> None:
        self.tensor = x
        self.channels = x.shape[1]
        self.rows, self.group = x.numel() // self.channels, 1
        while (self.channels * self.group < _LONG or self.channels * self.group % LANES) and self.rows % 2 == 0:
            self.group *= 2
            self.rows //= 2
        self.numbers = as_numpy(x.permute(0, 2, 3, 1).reshape(-1))

    def like(self) -> "Table":
        """An empty one of the same shape."""
        return Table(torch.empty_like(self.tensor))

    @property
    def is_large(self) -> bool:
        size = self.tensor.element_size()
        return self.numbers.nbytes >= _LARGE and self.tensor.data_ptr() % (LANES * size) == 0


class Scale(NamedTuple):
    """What a channel is normalised by, C numbers each: (x - mean) · factor + bias, factor = deviation · weight."""

    mean: Floats
    factor: Floats
    bias: Floats
    deviation: Floats  # 1 / √(variance + eps)

    @classmethod
    def of(cls, running: "Running", weight: Tensor, bias: Tensor, eps: float) -> "Scale":
        """By the statistics that are kept."""
        deviation = (running.variance.double() + eps).rsqrt().float()
        return cls(
            running.mean.float().numpy().copy(),
            (deviation * weight.detach()).numpy(),
            bias.detach().numpy().copy(),
            deviation.numpy(),
        )


def batch_scale(x: Table, running: "Running", weight: Tensor, bias: Tensor, eps: float) -> Scale:
    """By the batch's own statistics, which move `running` in place."""
    columns = x.channels * x.group
    block = max(1, _BLOCK // columns)

    def part(start: int, stop: int) -> tuple[int, NDArray[np.float64]]:
        found = np.zeros((2, columns))
        _moments(x.numbers, found[0], found[1], block, start, stop)
        return stop - start, found

    counts, parts = zip(*split(x.rows, part), strict=True)
    scale = Scale(*np.empty((4, x.channels), np.float32))
    kept = running.mean.numpy(), running.variance.numpy(), running.momentum
    _settle(np.array(counts), np.stack(parts), *kept, weight.detach().numpy(), bias.detach().numpy(), eps, *scale)
    return scale


def normalise(x: Table, scale: Scale, limits: "Clip") -> Tensor:
    """(x - mean) · factor + bias, clipped."""
    out = x.like()
    large, low, high = out.is_large, np.float32(limits.low), np.float32(limits.high)
    split(
        x.rows,
        lambda start, stop: _normalise(x.numbers, out.numbers, large, *scale[:3], x.group, low, high, start, stop),
    )
    return out.tensor


def gradients(grad: Table, x: Table, scale: Scale, limits: "Clip") -> tuple[Tensor, Tensor, Floats]:
    """Those of weight and bias, C each; and 2×C, by how much each channel's input gradient rises with x and anyway.

    Both come of two sums: of the gradient that passes the clip, and of that times (x - mean).
    """
    columns, low, high = x.channels * x.group, np.float32(limits.low), np.float32(limits.high)
    block = max(1, _BLOCK // columns)

    def part(start: int, stop: int) -> NDArray[np.float64]:
        found = np.zeros((2, columns))
        _sums(x.numbers, grad.numbers, *scale[:3], x.group, low, high, found[0], found[1], block, start, stop)
        return found

    plain, centred = np.add.reduce(split(x.rows, part)).reshape(2, x.group, x.channels).sum(1)
    count, deviation = x.rows * x.group, scale.deviation
    slope = np.empty((2, x.channels), np.float32)
    slope[0] = -scale.factor * np.float64(deviation) ** 2 * centred / count
    slope[1] = -scale.factor * plain / count
    return torch.from_numpy((centred * deviation).astype(np.float32)), torch.from_numpy(plain.astype(np.float32)), slope


def input_gradient(grad: Table, x: Table, scale: Scale, limits: "Clip", slope: Floats | None) -> Tensor:
    """factor · the gradient that passes the clip, and, without `slope` nothing else, slope · (x - mean) + offset."""
    out = x.like()
    large, low, high = out.is_large, np.float32(limits.low), np.float32(limits.high)
    rise, offset = np.zeros((2, x.channels), np.float32) if slope is None else slope
    split(
        x.rows,
        lambda start, stop: _input_gradient(
            x.numbers, grad.numbers, out.numbers, large, *scale[:3], rise, offset, x.group, low, high, start, stop
        ),
    )
    return out.tensor


@njit(nogil=True, cache=True, error_model="numpy")
def _settle(  # type: ignore[no-untyped-def]
    counts, parts, running_mean, running_variance, momentum, weight, bias, eps, mean, factor, offset, deviation
):
    """Joins the moments that threads found for long rows' columns, P×2×columns; moves the running ones.

    Columns are channels time and again; every one stands for as many rows as its thread has seen. Variances are the
    biased ones, but the running one.
    """
    channels = len(mean)
    group = parts.shape[2] // channels
    rows = counts.sum() * group
    for channel in range(channels):
        middle = spread = 0.0
        for part in range(len(counts)):
            for column in range(channel, channels * group, channels):
                middle += parts[part, 0, column] * counts[part]
        middle /= rows
        for part in range(len(counts)):
            for column in range(channel, channels * group, channels):
                away = parts[part, 0, column] - middle
                spread += parts[part, 1, column] + counts[part] * away * away
        running_mean[channel] += (middle - running_mean[channel]) * momentum
        running_variance[channel] += (spread / (rows - 1) - running_variance[channel]) * momentum
        deviation[channel] = 1 / np.sqrt(spread / rows + eps)
        mean[channel], offset[channel] = middle, bias[channel]
        factor[channel] = deviation[channel] * weight[channel]


@njit(inline="always")
def _long(values, group):  # type: ignore[no-untyped-def]
    """A channel's values for each column of a long row."""
    channels = len(values)
    found = np.empty(channels * group, np.float32)
    for start in range(0, channels * group, channels):
        found[start : start + channels] = values
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _moments(x, mean, spread, block, start, stop):  # type: ignore[no-untyped-def]
    """Each column's mean and sum of squared deviations over the rows start..stop.

    A block's sums are of deviations from the mean so far, which costs no digits where a mean is large beside its
    deviation; blocks are joined as in Chan, Golub and LeVeque, 1979.
    """
    columns = len(mean)
    shift, total, squares = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    for column in range(0, columns, LANES):
        store(shift, column, load(x, start * columns + column))
    for first in range(start, stop, block):
        last = min(first + block, stop)
        total[:] = 0
        squares[:] = 0
        for row in range(first, last):
            for column in range(0, columns, LANES):
                deviation = subtract(load(x, row * columns + column), load(shift, column))
                store(total, column, add(load(total, column), deviation))
                store(squares, column, add_product(load(squares, column), deviation, deviation))
        count, before = last - first, first - start
        for column in range(columns):
            away = total[column] / np.float64(count)
            delta = shift[column] + away - mean[column]
            mean[column] += delta * count / (before + count)
            spread[column] += squares[column] - total[column] * away + delta * delta * before * count / (before + count)
            shift[column] = np.float32(mean[column])


@njit(nogil=True, cache=True, error_model="numpy")
def _normalise(x, out, large, mean, scale, bias, group, low, high, start, stop):  # type: ignore[no-untyped-def]
    mean, scale, bias = _long(mean, group), _long(scale, group), _long(bias, group)
    columns = len(mean)
    least, most = fill(low), fill(high)
    for row in range(start, stop):
        for column in range(0, columns, LANES):
            place = row * columns + column
            centred = subtract(load(x, place), load(mean, column))
            made = clip(add_product(load(bias, column), centred, load(scale, column)), least, most)
            if large:
                store_past_caches(out, place, made)
            else:
                store(out, place, made)


@njit(nogil=True, cache=True, error_model="numpy")
def _sums(  # type: ignore[no-untyped-def]
    x, grad, mean, scale, bias, group, low, high, plain, centred, block, start, stop
):
    mean, scale, bias = _long(mean, group), _long(scale, group), _long(bias, group)
    columns = len(mean)
    least, most = fill(low), fill(high)
    total, product = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for first in range(start, stop, block):
        total[:] = 0
        product[:] = 0
        for row in range(first, min(first + block, stop)):
            for column in range(0, columns, LANES):
                place = row * columns + column
                deviation = subtract(load(x, place), load(mean, column))
                made = add_product(load(bias, column), deviation, load(scale, column))
                passed = kept_between(load(grad, place), made, least, most)
                store(total, column, add(load(total, column), passed))
                store(product, column, add_product(load(product, column), passed, deviation))
        for column in range(columns):
            plain[column] += total[column]
            centred[column] += product[column]


@njit(nogil=True, cache=True, error_model="numpy")
def _input_gradient(  # type: ignore[no-untyped-def]
    x, grad, out, large, mean, scale, bias, slope, offset, group, low, high, start, stop
):
    mean, scale, bias = _long(mean, group), _long(scale, group), _long(bias, group)
    slope, offset = _long(slope, group), _long(offset, group)
    columns = len(mean)
    least, most = fill(low), fill(high)
    for row in range(start, stop):
        for column in range(0, columns, LANES):
            place = row * columns + column
            deviation, factor = subtract(load(x, place), load(mean, column)), load(scale, column)
            made = add_product(load(bias, column), deviation, factor)
            passed = multiply(kept_between(load(grad, place), made, least, most), factor)
            back = add_product(add(passed, load(offset, column)), deviation, load(slope, column))
            if large:
                store_past_caches(out, place, back)
            else:
                store(out, place, back)
