"""Building the permutohedral lattice on the CPU: points to simplices, vertices to rows, rows to neighbours."""

from functools import cache
from typing import Any

import numpy as np

from atrous.ops.compiled import njit

_MULTIPLIER = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: consecutive keys land far apart


@cache
def embedding(d: int) -> Any:
    """The loop over a band's points for so many dimensions: knowing their number it is twice as fast."""
    side = d + 1
    shrink = np.float32(1 / side)

    @njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
    def embed(features, start, stop, scale, origin, stride, rows, weights):  # type: ignore[no-untyped-def]
        """Fills the rows and weights of the points start..stop; returns the keys of the rows and their mass."""
        bits = 8
        while (1 << bits) < 2 * (stop - start):
            bits += 1
        table, where, limit = _table(bits)
        keys, mass = np.empty(limit + side, np.int64), np.zeros(limit + side, np.float32)
        found = 0
        elevated, offset, ordered = np.empty((3, side), np.float32)
        rank, ordered_stride = np.empty((2, side), np.int64)
        for point in range(start, stop):
            tail = np.float32(0)
            for axis in range(d, 0, -1):
                value = features[point, axis - 1] * scale[axis - 1]
                elevated[axis] = tail - np.float32(axis) * value
                tail += value
            elevated[0] = tail
            excess = np.int64(0)
            key = origin
            for axis in range(side):
                place = elevated[axis] * shrink
                quotient = np.rint(place)
                offset[axis] = place - quotient
                excess += np.int64(quotient)
                key += np.int64(quotient) * stride[axis]
                rank[axis] = 0
            for axis in range(side):
                for later in range(axis + 1, side):
                    lower = np.int64(offset[axis] < offset[later])
                    rank[axis] += lower
                    rank[later] += 1 - lower
            for axis in range(side):
                order = rank[axis] + excess
                shift = np.int64(order < 0) - np.int64(order > d)
                order += shift * side
                key += shift * stride[axis]
                ordered[order] = offset[axis] - np.float32(shift)
                ordered_stride[order] = stride[axis]
            if found > limit:
                bits += 1
                table, where, limit = _table(bits)
                keys, mass = _longer(keys, limit + side), _longer(mass, limit + side)
                for row in range(found):
                    slot = _slot(keys[row], table, bits)
                    table[slot], where[slot] = keys[row], row
            for corner in range(side):
                if corner > 0:
                    key += 1 - ordered_stride[side - corner]
                    weight = ordered[d - corner] - ordered[side - corner]
                else:
                    weight = np.float32(1) + ordered[d] - ordered[0]
                slot = _slot(key, table, bits)
                if table[slot] == -1:
                    table[slot], where[slot], keys[found] = key, found, key
                    found += 1
                row = where[slot]
                rows[point, corner] = row
                weights[point, corner] = weight
                mass[row] += weight
        return keys[:found], mass[:found]

    return embed


@njit(nogil=True, cache=True)
def _table(bits):  # type: ignore[no-untyped-def]
    """An empty hash table: keys, the rows that they stand for, and how many it takes before it is slow."""
    return np.full(1 << bits, -1, np.int64), np.empty(1 << bits, np.int32), (5 << bits) >> 3


@njit(nogil=True, inline="always")
def _slot(key, table, bits):  # type: ignore[no-untyped-def]
    """Where the key is, or would be put."""
    slot = np.int64((np.uint64(key) * np.uint64(_MULTIPLIER)) >> np.uint64(64 - bits))
    while table[slot] != key and table[slot] != -1:
        slot = (slot + 1) & ((1 << bits) - 1)
    return slot


@njit(nogil=True, cache=True)
def _longer(array, length):  # type: ignore[no-untyped-def]
    more = np.zeros(length, array.dtype)
    more[: len(array)] = array
    return more


@njit(nogil=True, cache=True)
def number_rows(keys):  # type: ignore[no-untyped-def]
    """Numbers vertices in the order in which the bands found them: each row's number, and each vertex's first row."""
    bits = 8
    while (5 << bits) >> 3 < len(keys):
        bits += 1
    table, where, _ = _table(bits)
    numbers, homes = np.empty((2, len(keys)), np.int32)
    found = 0
    for row in range(len(keys)):
        slot = _slot(keys[row], table, bits)
        if table[slot] == -1:
            table[slot], where[slot], homes[found] = keys[row], found, row
            found += 1
        numbers[row] = where[slot]
    return numbers, homes[:found].copy()


@njit(nogil=True, cache=True)
def list_members(numbers, vertices):  # type: ignore[no-untyped-def]
    """The rows of each vertex, in order, and where each vertex's begin."""
    ends = np.zeros(vertices + 1, np.int32)
    for number in numbers:
        ends[number + 1] += 1
    for vertex in range(vertices):
        ends[vertex + 1] += ends[vertex]
    filled = ends[:-1].copy()
    members = np.empty(len(numbers), np.int32)
    for row in range(len(numbers)):
        members[filled[numbers[row]]] = row
        filled[numbers[row]] += 1
    return members, ends


@njit(nogil=True, cache=True)
def find_neighbours(known, order, homes, wraps, stride, neighbours, start, stop):  # type: ignore[no-untyped-def]
    """For the axes start..stop the row of the vertex after, and, entered from the other side, of the one before.

    Of ascending keys those wanted ascend too, for either kind of vertex: so both are walked through once.
    """
    around = stride.sum() - len(stride)
    last = len(known) - 1
    for axis in range(start, stop):
        step = 1 - stride[axis]
        found, wrapped = 0, 0
        for index in range(len(known)):
            if wraps[index]:
                wanted = known[index] + step + around
                while wrapped < last and known[wrapped] < wanted:
                    wrapped += 1
                other = wrapped
            else:
                wanted = known[index] + step
                while found < last and known[found] < wanted:
                    found += 1
                other = found
            if known[other] == wanted:
                neighbours[axis, order[index], 0] = homes[other]
                neighbours[axis, order[other], 1] = homes[index]
