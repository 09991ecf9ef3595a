"""Mean-field inference with the papers' two kernels on the CPU.

An iteration goes over the pixels once. What the two kernels hold for a pixel's labels is sliced and added to its unary
energies, the softmax is taken, and the new probabilities are splatted for the next iteration at once, all in a row of
labels that stays in registers or near them. Between two such passes the lattice and the grid are blurred, which have
far fewer points than the image has pixels. Messages carry the kernels' weights already: the lattice's weights hold the
normalisation, and so do the grid's tents, since a row and a column of the image determine what the grid gives to ones.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atrous.crf.params import CRFParams
from atrous.ops.compiled import njit
from atrous.ops.gaussian import Grid, gaussian_grid
from atrous.ops.lanes import (
    LANES,
    add,
    add_product,
    exp,
    fill,
    largest,
    load,
    maximum,
    multiply,
    store,
    subtract,
    total,
    zeros,
)
from atrous.ops.permutohedral import Keys, number_vertices
from atrous.ops.permutohedral_cpu import CPULattice, band_count
from atrous.ops.threads import split

Floats = NDArray[np.float32]

_TINY = 1e-20
_IMPOSSIBLE = 1e30  # the energy that stands for infinity
_STRIP = 32  # pixels wide
_CORNERS = 6  # of a simplex in the lattice of x, y, r, g, b


def least_excess(unary: Floats) -> Floats:
    """Of K×H×W energies, for each label the least by which it exceeds its pixel's best one.

    NaN where energies are NaN or -inf, or a pixel has +inf alone.
    """
    parts = split(unary.shape[1], lambda start, stop: _least_excess(unary, start, stop))
    least: Floats = np.min(parts, axis=0)
    return least


def bilateral_keys(height: int, width: int, params: CRFParams) -> Keys | None:
    """How the bilateral kernel's vertices are numbered; None if it is so narrow that they cannot be."""
    scale = [params.bilateral_sxy] * 2 + [params.bilateral_srgb] * 3
    return number_vertices(np.zeros(5), np.array([width - 1, height - 1, 255, 255, 255]) / scale, 1)


def infer(
    unary: Floats,
    image: NDArray[np.uint8],
    params: CRFParams,
    keys: Keys,
    iterations: int,
    kept: NDArray[np.int64],
    out: Floats,
) -> None:
    """Fills `out` K×H×W with the probabilities of the labels that are kept.

    Args:
        unary: K×H×W energies; +inf is allowed, not NaN.
        image: H×W×3.
        keys: `bilateral_keys` of them.
        kept: the labels that take part.
    """
    _Inference(unary, image, params, keys, kept).run(iterations, out)


class _Tents(NamedTuple):
    """Along one axis, for each pixel its shares of the grid point before it and of the one after it."""

    before: Floats
    after: Floats


def _tents(length: int, grid: Grid) -> _Tents:
    """Shares times the square root of the normalisation: the filter of ones becomes about one."""
    part = np.arange(length) % grid.spacing / grid.spacing
    lower, points = np.arange(length) // grid.spacing, grid.points(length)
    ones = np.bincount(lower, 1 - part, points) + np.bincount(lower + 1, part, points)
    blurred = np.convolve(ones, grid.taps)[len(grid.taps) // 2 :][:points]
    norm = 1 / np.sqrt((1 - part) * blurred[lower] + part * blurred[lower + 1] + _TINY)
    return _Tents(((1 - part) * norm).astype(np.float32), (part * norm).astype(np.float32))


class _Inference:
    def __init__(
        self, unary: Floats, image: NDArray[np.uint8], params: CRFParams, keys: Keys, kept: NDArray[np.int64]
    ) -> None:
        _, self.height, self.width = unary.shape
        self.kept = kept
        self.lanes = -(-len(kept) // LANES) * LANES
        self.grid = gaussian_grid(params.gaussian_sxy)
        self.rows, self.columns = _tents(self.height, self.grid), _tents(self.width, self.grid)
        self.grid_size = self.grid.points(self.height), self.grid.points(self.width)
        self.taps = self.grid.taps.astype(np.float32), (self.grid.taps * params.gaussian_weight).astype(np.float32)
        self.bilateral_weight = params.bilateral_weight
        # Bands of whole rows, which begin on a grid point: two of them share a row of grid points at most.
        step = self.grid.spacing
        count = band_count(self.height * self.width)
        starts = sorted({self.height * band // count // step * step for band in range(count)})
        self.bands = np.array([*starts, self.height])
        held = [(b - 1) // step - a // step + 2 for a, b in zip(self.bands[:-1], self.bands[1:], strict=True)]
        self.grid_ends = np.cumsum([0, *held])
        self.unary = zeros(self.height * self.width * self.lanes)
        features = np.empty((self.height * self.width, 5), np.float32)

        def lay_out(start: int, stop: int) -> None:
            for band in range(start, stop):
                _features(image, params.bilateral_sxy, params.bilateral_srgb, features, *self.bands[band : band + 2])
                _negated_rows(unary, kept, self.unary, self.lanes, *self.bands[band : band + 2])

        split(len(self.bands) - 1, lay_out)
        self.lattice = CPULattice(features[None], keys, [int(row) * self.width for row in self.bands])
        norm = self.lattice.norm()
        self.lattice.weights *= (1 / np.sqrt(norm + _TINY))[:, None]

    def run(self, iterations: int, out: Floats) -> None:
        held, splatted = self.lattice.two_of_rows(self.lanes)
        grid = zeros(self.grid_size[0] * self.grid_size[1] * self.lanes)
        pieces = zeros(int(self.grid_ends[-1]) * self.grid_size[1] * self.lanes)
        firsts = self.bands // self.grid.spacing
        for iteration in range(iterations + 1):
            self._over_pixels(held, splatted, grid, pieces, iteration > 0, iteration < iterations, out)
            if iteration < iterations:
                held, splatted = self.lattice.blur(splatted, held, self.lanes, self.bilateral_weight)
                blur = partial(_blur_grid, pieces, firsts, self.grid_ends, grid, self.grid_size[1], self.lanes)
                split(self.grid_size[0], partial(blur, *self.taps))

    def _over_pixels(
        self,
        held: Floats,
        splatted: Floats,
        grid: Floats,
        pieces: Floats,
        with_messages: bool,
        onward: bool,
        out: Floats,
    ) -> None:
        lattice = self.lattice

        def work(start: int, stop: int) -> None:
            for band in range(start, stop):
                rows = slice(*(lattice.row_ends[band : band + 2] * self.lanes))
                points = slice(*(self.grid_ends[band : band + 2] * self.grid_size[1] * self.lanes))
                _pass(
                    *self.bands[band : band + 2],
                    self.width,
                    self.lanes,
                    self.grid.spacing,
                    self.unary,
                    lattice.rows.reshape(-1),
                    lattice.weights.reshape(-1),
                    held[rows],
                    splatted[rows],
                    grid,
                    pieces[points],
                    *self.rows,
                    *self.columns,
                    with_messages,
                    onward,
                    self.kept,
                    out,
                )

        split(len(self.bands) - 1, work)


@njit(nogil=True, cache=True, fastmath={"nsz"})
def _least_excess(unary, top, bottom):  # type: ignore[no-untyped-def]
    labels, _, width = unary.shape
    # A minimum for each column: one number that all of them wait for would not become vector instructions.
    lowest, best = np.full((labels, width), np.inf, np.float32), np.empty(width, np.float32)
    numbers = np.int64(0)
    for y in range(top, bottom):
        best[:] = np.inf
        for label in range(labels):
            row = unary[label, y]
            for x in range(width):
                best[x] = row[x] if row[x] < best[x] else best[x]
                numbers += np.int64(row[x] == row[x])
        for x in range(width):
            numbers -= np.int64(np.isinf(best[x]))
        for label in range(labels):
            row, low = unary[label, y], lowest[label]
            for x in range(width):
                excess = row[x] - best[x]
                low[x] = excess if excess < low[x] else low[x]
    least = np.empty(labels, np.float32)
    for label in range(labels):
        least[label] = lowest[label].min()
    if numbers != labels * (bottom - top) * width:
        least[:] = np.nan
    return least


# Within a band pixels are numbered strip by strip, in the strip row by row: the vertices of a strip's pixels are
# still near when its next row comes to them.


@njit(nogil=True, cache=True)
def _features(image, sxy, srgb, features, top, bottom):  # type: ignore[no-untyped-def]
    """Places and colours in units of the bilateral kernel's widths, for a band."""
    place, colour = np.float32(1 / sxy), np.float32(1 / srgb)
    width = image.shape[1]
    pixel = top * width
    for left in range(0, width, _STRIP):
        for y in range(top, bottom):
            for x in range(left, min(left + _STRIP, width)):
                point = features[pixel]
                point[0] = np.float32(x) * place
                point[1] = np.float32(y) * place
                for channel in range(3):
                    point[2 + channel] = np.float32(image[y, x, channel]) * colour
                pixel += 1


@njit(nogil=True, cache=True)
def _negated_rows(unary, kept, out, lanes, top, bottom):  # type: ignore[no-untyped-def]
    """K×H×W energies to rows of K' log-probabilities, for a band; what pads has none."""
    width = unary.shape[2]
    first = top * width
    for left in range(0, width, _STRIP):
        right = min(left + _STRIP, width)
        for y in range(top, bottom):
            for lane in range(lanes):
                place = first * lanes + lane
                for x in range(left, right):
                    energy = unary[kept[lane], y, x] if lane < len(kept) else np.float32(_IMPOSSIBLE)
                    out[place] = -min(energy, np.float32(_IMPOSSIBLE))
                    place += lanes
            first += right - left


@njit(nogil=True, cache=True)
def _pass(  # type: ignore[no-untyped-def]
    top,
    bottom,
    width,
    lanes,
    step,
    unary,
    rows,
    weights,
    held,
    splatted,
    grid,
    pieces,
    y_before,
    y_after,
    x_before,
    x_after,
    with_messages,
    onward,
    kept,
    out,
):
    """One band of image rows: messages, softmax, and the splat for the next iteration, or the result."""
    line = ((width - 1) // step + 2) * lanes
    message, spread = np.empty((2, (_STRIP // step + 3) * lanes), np.float32)
    e = np.empty(lanes, np.float32)
    if onward:
        splatted[:] = 0
        pieces[:] = 0
    pixel = top * width
    for left in range(0, width, _STRIP):
        right = min(left + _STRIP, width)
        first = left // step * lanes
        length = (right - 1) // step * lanes + 2 * lanes - first
        for y in range(top, bottom):
            before, after = fill(y_before[y]), fill(y_after[y])
            if with_messages:
                above = y // step * line + first
                for place in range(0, length, LANES):
                    value = multiply(before, load(grid, above + place))
                    store(message, place, add_product(value, after, load(grid, above + line + place)))
            for place in range(0, length, LANES):
                store(spread, place, fill(np.float32(0)))
            for x in range(left, right):
                corner = pixel * _CORNERS
                point = x // step * lanes - first
                x0, x1 = fill(x_before[x]), fill(x_after[x])
                high = fill(np.float32(-3e38))
                for lane in range(0, lanes, LANES):
                    value = load(unary, pixel * lanes + lane)
                    if with_messages:
                        value = add_product(value, x0, load(message, point + lane))
                        value = add_product(value, x1, load(message, point + lanes + lane))
                        for r in range(_CORNERS):
                            row = rows[corner + r] * lanes + lane
                            value = add_product(value, fill(weights[corner + r]), load(held, row))
                    store(e, lane, value)
                    high = maximum(high, value)
                bound = fill(largest(high))
                sums = fill(np.float32(0))
                for lane in range(0, lanes, LANES):
                    value = exp(subtract(load(e, lane), bound))
                    store(e, lane, value)
                    sums = add(sums, value)
                scale = np.float32(1) / total(sums)
                if onward:
                    share = fill(scale)
                    for lane in range(0, lanes, LANES):
                        q = multiply(load(e, lane), share)
                        place = point + lane
                        store(spread, place, add_product(load(spread, place), x0, q))
                        store(spread, place + lanes, add_product(load(spread, place + lanes), x1, q))
                        for r in range(_CORNERS):
                            place = rows[corner + r] * lanes + lane
                            store(splatted, place, add_product(load(splatted, place), fill(weights[corner + r]), q))
                else:
                    for lane in range(len(kept)):
                        out[kept[lane], y, x] = e[lane] * scale
                pixel += 1
            if onward:
                above = (y // step - top // step) * line + first
                for place in range(0, length, LANES):
                    value = load(spread, place)
                    below = above + line + place
                    store(pieces, above + place, add_product(load(pieces, above + place), before, value))
                    store(pieces, below, add_product(load(pieces, below), after, value))


@njit(nogil=True, cache=True)
def _blur_grid(pieces, firsts, ends, grid, points, lanes, x_taps, y_taps, start, stop):  # type: ignore[no-untyped-def]
    """Rows start..stop of the grid, blurred both ways; the bands' pieces of a row are added up."""
    reach = len(x_taps) // 2
    line = points * lanes
    row = np.zeros(line + 2 * reach * lanes, np.float32)
    for y in range(start, stop):
        row[:] = 0
        for band in range(len(ends) - 1):
            for piece in range(ends[band], ends[band + 1]):
                distance = firsts[band] + piece - ends[band] - y
                if -reach <= distance <= reach:
                    tap = fill(y_taps[reach + distance])
                    for place in range(0, line, LANES):
                        inside = place + reach * lanes
                        store(row, inside, add_product(load(row, inside), tap, load(pieces, piece * line + place)))
        for place in range(0, line, LANES):
            value = fill(np.float32(0))
            for tap in range(len(x_taps)):
                value = add_product(value, fill(x_taps[tap]), load(row, place + tap * lanes))
            store(grid, y * line + place, value)
