"""The four passes of a batch norm in training, over channels-last memory in float32 or bfloat16.

An N×C×H×W tensor is a table of N·H·W rows. Where C is small several rows count as one long row, so that the loops over
columns are worth their start; what is found for a long row's columns is put together at the end.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from atrous.ops.bfloat16 import as_numpy
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
    from atrous.ops.batch_norm import Clip

_LONG = 256  # columns from which a row is long enough
_BLOCK = 16384  # numbers whose sums are taken in float32, and which stay in the nearest caches meanwhile
_LARGE = 16 << 20  # bytes of an output from which the next to read it finds little of it in a cache


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each channel's mean and biased variance, in float64."""
    channels = x.shape[1]
    table, group = _table(x)
    columns = channels * group
    rows = len(table) // columns

    def part(start: int, stop: int) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        mean, spread = np.zeros(columns), np.zeros(columns)
        _moments(table, mean, spread, max(1, _BLOCK // columns), start, stop)
        return stop - start, mean, spread

    counts, means, spreads = zip(*split(rows, part), strict=True)
    # Long rows' columns are channels time and again; every one stands for as many rows as its thread has seen.
    weights = np.repeat(np.array(counts, np.float64), group)[:, None] / (rows * group)
    part_means = np.concatenate(means).reshape(-1, channels)
    mean = (weights * part_means).sum(0)
    variance = np.concatenate(spreads).reshape(-1, channels).sum(0) / (rows * group)
    variance += (weights * (part_means - mean) ** 2).sum(0)
    return torch.from_numpy(mean), torch.from_numpy(variance)


def normalise(x: Tensor, mean: Tensor, scale: Tensor, bias: Tensor, limits: "Clip") -> Tensor:
    """(x - mean) · scale + bias, clipped."""
    table, group = _table(x)
    out = torch.empty_like(x)
    coefficients = _coefficients(group, mean, scale, bias)
    written, low, high = _table(out)[0], np.float32(limits.low), np.float32(limits.high)
    split(
        len(table) // len(coefficients[0]),
        lambda start, stop: _normalise(table, written, _is_large(out), *coefficients, low, high, start, stop),
    )
    return out


def sums(grad: Tensor, x: Tensor, mean: Tensor, scale: Tensor, bias: Tensor, limits: "Clip") -> tuple[Tensor, Tensor]:
    """Each channel's sum, in float64, of the gradient that passes the clip, and of that times (x - mean)."""
    channels = x.shape[1]
    table, group = _table(x)
    coefficients = _coefficients(group, mean, scale, bias)
    columns, low, high = channels * group, np.float32(limits.low), np.float32(limits.high)

    def part(start: int, stop: int) -> NDArray[np.float64]:
        found = np.zeros((2, columns))
        block = max(1, _BLOCK // columns)
        _sums(table, _table(grad)[0], *coefficients, low, high, found[0], found[1], block, start, stop)
        return found

    plain, centred = sum(split(len(table) // columns, part)).reshape(2, group, channels).sum(1)
    return torch.from_numpy(plain), torch.from_numpy(centred)


def input_gradient(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    scale: Tensor,
    bias: Tensor,
    limits: "Clip",
    slope: Tensor,
    offset: Tensor,
) -> Tensor:
    """scale · the gradient that passes the clip + slope · (x - mean) + offset."""
    table, group = _table(x)
    out = torch.empty_like(x)
    coefficients = _coefficients(group, mean, scale, bias, slope, offset)
    incoming, written = _table(grad)[0], _table(out)[0]
    low, high = np.float32(limits.low), np.float32(limits.high)
    split(
        len(table) // len(coefficients[0]),
        lambda start, stop: _input_gradient(
            table, incoming, written, _is_large(out), *coefficients, low, high, start, stop
        ),
    )
    return out


def _table(x: Tensor) -> tuple[NDArray[Any], int]:
    """Its numbers, row after row, and how many rows make a long one: the table's rows divide by it."""
    channels = x.shape[1]
    rows = x.numel() // channels
    group = 1
    while (channels * group < _LONG or channels * group % LANES) and rows % (2 * group) == 0:
        group *= 2
    return as_numpy(x.permute(0, 2, 3, 1).reshape(-1)), group


def _is_large(out: Tensor) -> bool:
    return out.nbytes >= _LARGE and out.data_ptr() % (LANES * out.element_size()) == 0


def _coefficients(group: int, *values: Tensor) -> list[NDArray[np.float32]]:
    return [np.tile(value.detach().numpy(), group) for value in values]


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
def _normalise(x, out, large, mean, scale, bias, low, high, start, stop):  # type: ignore[no-untyped-def]
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
def _sums(x, grad, mean, scale, bias, low, high, plain, centred, block, start, stop):  # type: ignore[no-untyped-def]
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
    x, grad, out, large, mean, scale, bias, slope, offset, low, high, start, stop
):
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
