"""The permutohedral lattice on the CPU.

Points are taken in bands, whose vertices each have their own numbers and rows: a band's hash table and values stay near
the cache, and no two threads write to the same row. The bands are the same for any number of threads, and sums are
taken in the order of the bands: so the result is always the same.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.ops.compiled import njit
from atrous.ops.lanes import LANES, add, add_product, fill, load, multiply, store, zeros
from atrous.ops.permutohedral import Keys, elevation
from atrous.ops.permutohedral_build_cpu import embedding, find_neighbours, list_members, number_rows
from atrous.ops.threads import split

Floats = NDArray[np.float32]

_BAND = 24_000  # points: with their vertices' values some 2 MB
_MOST_BANDS = 64


def band_count(points: int) -> int:
    """Into how many bands to cut so many points; several threads share them evenly."""
    wanted = min(points // _BAND, _MOST_BANDS)
    return -(-wanted // 4) * 4 if wanted > 1 else 1


class CPULattice:
    """The lattice of sets × points × d float32 features.

    Args:
        features: contiguous.
        keys: how their vertices are numbered.
        ends: where the bands of a single set begin and end, if it matters.

    Attributes:
        ends: B + 1 points between which the bands lie.
        rows: points × (d+1), for each corner of a point its row among the band's.
        weights: points × (d+1), the corners' shares in the point.
        row_ends: B + 1: where a band's rows begin among all bands'.
        mass: the weights that each row has received.
    """

    def __init__(self, features: Floats, keys: Keys, ends: list[int] | None = None) -> None:
        sets, points, d = features.shape
        cut = band_count(points)
        even = [0, *(s * points + points * (i + 1) // cut for s in range(sets) for i in range(cut))]
        self.ends = bounds = ends or even
        flat = features.reshape(-1, d)
        self.rows = np.empty((len(flat), d + 1), np.int32)
        self.weights = np.empty((len(flat), d + 1), np.float32)
        bands = len(bounds) - 1

        def embed(start: int, stop: int) -> list[tuple[NDArray[np.int64], Floats]]:
            return [
                embedding(d)(
                    flat,
                    *bounds[band : band + 2],
                    elevation(d),
                    int(keys.origin) + bounds[band] // points * int(keys.span),
                    keys.stride,
                    self.rows,
                    self.weights,
                )
                for band in range(start, stop)
            ]

        parts = [part for several in split(bands, embed) for part in several]
        self.row_ends = np.cumsum([0, *(len(mass) for _, mass in parts)])
        numbers, self._homes = number_rows(np.concatenate([key for key, _ in parts]))
        members, ends = list_members(numbers, len(self._homes))
        # Most vertices have one row, in which they stay; those of several bands are added up in the first.
        self._shared = members, ends, np.flatnonzero(np.diff(ends) > 1)
        known = np.concatenate([key for key, _ in parts])[self._homes]
        order = known.argsort()
        ascending = known[order], order, self._homes[order], known[order] % (d + 1) == d
        self._neighbours = np.full((d + 1, len(known), 2), self.row_ends[-1], np.int32)
        split(d + 1, partial(find_neighbours, *ascending, keys.stride, self._neighbours))
        self.mass = np.concatenate([mass for _, mass in parts])

    @property
    def vertices(self) -> int:
        """How many there are."""
        return len(self._homes)

    def norm(self) -> Floats:
        """What a one at each point is filtered to: N."""
        values, other = np.zeros((2, len(self.mass) + 1), np.float32)
        values[:-1] = self.mass
        _gather_mass(values, *self._shared)
        for neighbours in self._neighbours:
            split(self.vertices, partial(_blur_mass, values, other, self._homes, neighbours))
            values, other = other, values
        _spread_mass(values, *self._shared)
        values *= self._alpha
        norm = np.empty(len(self.rows), np.float32)
        self._over_bands(
            lambda band, start, stop: _slice_mass(values[band], self.rows, self.weights, norm, start, stop)
        )
        return norm

    @property
    def _alpha(self) -> float:
        return 1 / (1 + 2.0 ** -(len(self._neighbours) - 1))

    def apply(self, values: Tensor, reverse: bool) -> Tensor:
        """N×C filtered; see `Permutohedral.filter`."""
        channels = values.shape[1]
        width = -(-channels // LANES) * LANES
        padded = torch.zeros((len(values), width), dtype=torch.float32, device="cpu")
        padded[:, :channels] = values
        flat = padded.numpy().reshape(-1)
        rows, spare = self.two_of_rows(width)
        self._over_bands(
            lambda band, start, stop: _splat(
                flat, rows[width * band.start : width * band.stop], self.rows, self.weights, width, start, stop
            )
        )
        rows, _ = self.blur(rows, spare, width, 1.0, reverse)
        self._over_bands(
            lambda band, start, stop: _slice(
                flat, rows[width * band.start : width * band.stop], self.rows, self.weights, width, start, stop
            )
        )
        return padded[:, :channels].to(values.dtype)

    def two_of_rows(self, width: int) -> tuple[Floats, Floats]:
        """Two flat arrays of all bands' rows × `width`, and of one row more, which stays 0."""
        count = (int(self.row_ends[-1]) + 1) * width
        return zeros(count), zeros(count)

    def blur(
        self, rows: Floats, spare: Floats, width: int, scale: float, reverse: bool = False
    ) -> tuple[Floats, Floats]:
        """Blurs along all axes what the bands' rows hold together, times `scale`.

        Args:
            rows, spare: what `two_of_rows` made; both are written to.

        Returns:
            Both, the one with the result first.
        """
        count = len(self._shared[2])
        split(count, partial(_gather, rows, *self._shared, width))
        axes = list(reversed(self._neighbours) if reverse else self._neighbours)
        factors = [*[1.0] * (len(axes) - 1), scale * self._alpha]
        for neighbours, factor in zip(axes, factors, strict=True):
            split(self.vertices, partial(_blur, rows, spare, self._homes, neighbours, width, factor))
            rows, spare = spare, rows
        split(count, partial(_spread, rows, *self._shared, width))
        return rows, spare

    def _over_bands(self, work: Callable[[slice, int, int], None]) -> None:
        """Calls `work(rows of the band, first point, last point)` for each."""
        rows = [slice(int(a), int(b)) for a, b in pairwise(self.row_ends)]

        def several(start: int, stop: int) -> None:
            for band in range(start, stop):
                work(rows[band], *self.ends[band : band + 2])

        split(len(rows), several)


@njit(nogil=True, cache=True)
def _gather_mass(values, members, ends, shared):  # type: ignore[no-untyped-def]
    for vertex in shared:
        for index in range(ends[vertex] + 1, ends[vertex + 1]):
            values[members[ends[vertex]]] += values[members[index]]


@njit(nogil=True, cache=True)
def _blur_mass(values, out, homes, neighbours, start, stop):  # type: ignore[no-untyped-def]
    half = np.float32(0.5)
    for vertex in range(start, stop):
        beside = values[neighbours[vertex, 0]] + values[neighbours[vertex, 1]]
        out[homes[vertex]] = values[homes[vertex]] + half * beside


@njit(nogil=True, cache=True)
def _spread_mass(values, members, ends, shared):  # type: ignore[no-untyped-def]
    for vertex in shared:
        for index in range(ends[vertex] + 1, ends[vertex + 1]):
            values[members[index]] = values[members[ends[vertex]]]


@njit(nogil=True, cache=True)
def _slice_mass(mass, rows, weights, norm, start, stop):  # type: ignore[no-untyped-def]
    for point in range(start, stop):
        value = np.float32(0)
        for corner in range(rows.shape[1]):
            value += weights[point, corner] * mass[rows[point, corner]]
        norm[point] = value


@njit(nogil=True, cache=True)
def _splat(values, out, rows, weights, width, start, stop):  # type: ignore[no-untyped-def]
    for point in range(start, stop):
        for corner in range(rows.shape[1]):
            weight = fill(weights[point, corner])
            row = rows[point, corner] * width
            for lane in range(0, width, LANES):
                store(out, row + lane, add_product(load(out, row + lane), weight, load(values, point * width + lane)))


@njit(nogil=True, cache=True)
def _slice(values, held, rows, weights, width, start, stop):  # type: ignore[no-untyped-def]
    for point in range(start, stop):
        for lane in range(0, width, LANES):
            value = fill(np.float32(0))
            for corner in range(rows.shape[1]):
                value = add_product(value, fill(weights[point, corner]), load(held, rows[point, corner] * width + lane))
            store(values, point * width + lane, value)


@njit(nogil=True, cache=True)
def _gather(rows, members, ends, shared, width, start, stop):  # type: ignore[no-untyped-def]
    """Adds to the first row of each shared vertex its other rows."""
    for vertex in shared[start:stop]:
        home = members[ends[vertex]] * width
        for lane in range(0, width, LANES):
            value = load(rows, home + lane)
            for index in range(ends[vertex] + 1, ends[vertex + 1]):
                value = add(value, load(rows, members[index] * width + lane))
            store(rows, home + lane, value)


@njit(nogil=True, cache=True)
def _blur(rows, out, homes, neighbours, width, scale, start, stop):  # type: ignore[no-untyped-def]
    half, scaled = fill(np.float32(0.5)), fill(np.float32(scale))
    for vertex in range(start, stop):
        home, after, before = homes[vertex] * width, neighbours[vertex, 0] * width, neighbours[vertex, 1] * width
        for lane in range(0, width, LANES):
            beside = add(load(rows, after + lane), load(rows, before + lane))
            store(out, home + lane, multiply(scaled, add_product(load(rows, home + lane), half, beside)))


@njit(nogil=True, cache=True)
def _spread(rows, members, ends, shared, width, start, stop):  # type: ignore[no-untyped-def]
    """Copies the first row of each shared vertex to its others."""
    for vertex in shared[start:stop]:
        home = members[ends[vertex]] * width
        for index in range(ends[vertex] + 1, ends[vertex + 1]):
            for lane in range(0, width, LANES):
                store(rows, members[index] * width + lane, load(rows, home + lane))
