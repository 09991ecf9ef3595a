"""Gaussian filtering in many dimensions on the permutohedral lattice (Adams, Baek and Davis, 2010).

Points with d features each spread ("splat") their values onto the corners of the lattice's simplices that they lie in,
the values are blurred along the lattice's d + 1 axes, and each point gathers ("slices") what its corners then hold.
The whole costs O(d² · points), however wide the Gaussian. `permutohedral_cpu` has the loops for the CPU; `Lattice`
beside it is the same in plain torch, for any device and floating type.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.errors import AtrousError

LARGEST_DIMENSION = 16
_LARGEST_KEY = 1 << 62


class _Linear(Protocol):
    def apply(self, values: Tensor, reverse: bool) -> Tensor: ...


class Permutohedral:
    """The lattice of some points, built once, through which any number of values are filtered.

    Args:
        features: N×d, or B×N×d for B separate sets of points: the place of each point in units of the Gaussian's
            standard deviation, 1 <= d <= 16; float32 or float64, on any device.

    Raises:
        AtrousError: another shape or type, or values that are not finite.
    """

    def __init__(self, features: Tensor) -> None:
        if features.ndim not in (2, 3) or not 1 <= features.shape[-1] <= LARGEST_DIMENSION or not features.numel():
            raise AtrousError(
                f"features of shape {tuple(features.shape)}: they are points × dimensions, or sets × points × "
                f"dimensions, of 1 to {LARGEST_DIMENSION} dimensions"
            )
        if features.dtype not in (torch.float32, torch.float64):
            raise AtrousError(f"features are {features.dtype}: give float32 or float64")
        features = features.detach()
        if not bool(features.isfinite().all()):
            raise AtrousError("features hold NaN or infinite values")
        self.shape = features.shape[:-1]
        sets = features.reshape(-1, *features.shape[-2:])
        keys = number_vertices(sets.amin((0, 1)).cpu().numpy(), sets.amax((0, 1)).cpu().numpy(), len(sets))
        self._lattice: _Linear
        if features.device.type == "cpu" and features.dtype == torch.float32 and keys is not None:
            from atrous.ops.permutohedral_cpu import CPULattice

            self._lattice = CPULattice(sets.contiguous().numpy(), keys)
        else:
            self._lattice = Lattice(sets, keys)

    def filter(self, values: Tensor, reverse: bool = False) -> Tensor:
        """For each point the sum over all points j of exp(-|f_i - f_j|² / 2) · v_j, up to the lattice's error.

        Args:
            values: N×C, or B×N×C, of any number of channels; gradients flow back to them.
            reverse: blur along the axes in the opposite order: the transpose of the filter, which differs from it
                where the lattice has holes.

        Raises:
            AtrousError: values that do not belong to these points.
        """
        if values.shape[:-1] != self.shape:
            raise AtrousError(f"values of shape {tuple(values.shape)} for points {tuple(self.shape)}")
        filtered: Tensor = _Filter.apply(values.flatten(0, -2), self._lattice, reverse)  # type: ignore[no-untyped-call]
        return filtered.view(values.shape)


def permutohedral(values: Tensor, features: Tensor) -> Tensor:
    """`values` N×C filtered by the Gaussian of `features` N×d, once: see `Permutohedral`."""
    return Permutohedral(features).filter(values)


class _Filter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, lattice: _Linear, reverse: bool) -> Tensor:
        ctx.lattice, ctx.reverse = lattice, reverse
        return lattice.apply(values, reverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _Filter.apply(grad, ctx.lattice, not ctx.reverse), None, None  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Keys:
    """How a vertex becomes one whole number.

    A vertex's d + 1 coordinates leave one remainder r on division by d + 1; the d first quotients q determine it. Its
    key is origin + Σ stride_i · q_i + r, with strides so far apart that no two vertices nearby share one.

    Attributes:
        stride: d + 1 multiples of d + 1; the last is 0.
        origin: makes the keys of the points' vertices positive.
        span: what separates one set of points from the next.
    """

    stride: NDArray[np.int64]
    origin: int
    span: int


def number_vertices(low: NDArray[Any], high: NDArray[Any], sets: int) -> Keys | None:
    """The keys for points between two corners, or None where 62 bits do not hold them."""
    scale = elevation(len(low)).astype(np.float64)
    low, high = low * scale, high * scale
    # The ends of what `elevate` can give, by its own steps. A vertex lies less than two from its point's quotients,
    # a neighbour one further; that leaves one for rounding.
    least, most = (_elevate(*ends) for ends in ((low, high), (high, low)))
    side = len(low) + 1
    first = np.floor(least / side).astype(np.int64) - 4
    counts = [int(count) for count in np.ceil(most / side).astype(np.int64) + 4 - first + 1]
    stride, span = [], side
    for count in counts[:-1]:
        stride.append(span)
        span *= count
    if span * sets >= _LARGEST_KEY:
        return None
    origin = -sum(int(a) * b for a, b in zip(first, stride, strict=False))
    return Keys(np.array([*stride, 0], np.int64), origin, span)


def elevation(d: int) -> NDArray[np.float32]:
    """What features are multiplied by, so that the lattice's filter has a standard deviation of one.

    (Section 3.1 of the paper; splat and slice blur by 1/6 of a cell each way, the blur by 1/2.)
    """
    steps = np.arange(1, d + 1)
    scale: NDArray[np.float64] = np.sqrt(2 / 3) * (d + 1) / np.sqrt(steps * (steps + 1))
    return scale.astype(np.float32)


def _elevate(added: NDArray[Any], taken: NDArray[Any]) -> NDArray[Any]:
    """Onto the plane of d + 1 coordinates whose sum is 0; of two ends of a range, one is added and one taken off."""
    d = len(added)
    tails = np.concatenate([np.cumsum(added[::-1])[::-1], [0.0]])
    elevated: NDArray[np.float64] = tails - np.concatenate([[0.0], np.arange(1, d + 1) * taken])
    return elevated


class Lattice:
    """The lattice in plain torch.

    Vertices are numbered in the order of their keys, and values are summed in the order of the points, so that the
    result is the same each time on every device.
    """

    def __init__(self, sets: Tensor, keys: Keys | None) -> None:
        count, points, d = sets.shape
        quotients, sorted_axes, self._weights = _simplices(sets.reshape(-1, d))
        of_set = torch.arange(count, device=sets.device).repeat_interleave(points)
        vertices = _vertices(quotients, sorted_axes, of_set)
        if keys is None:
            self._corners, self._neighbours = _number_by_rows(vertices)
        else:
            self._corners, self._neighbours = _number_by_keys(vertices, keys)
        self._count = self._neighbours.shape[1]
        corners = self._corners.flatten()
        # Splatting gathers too, in order: atomic additions would come in another order each time on a GPU.
        self._splat_order = corners.argsort(stable=True)
        lengths = corners.bincount(minlength=self._count)
        self._splat_ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])

    def apply(self, values: Tensor, reverse: bool) -> Tensor:
        """N×C filtered; see `Permutohedral.filter`."""
        side = self._weights.shape[1]
        weights = self._weights.to(values.dtype)
        spread = values[self._splat_order // side] * weights.flatten()[self._splat_order, None]
        at_vertices = torch.segment_reduce(spread, "sum", offsets=self._splat_ends, axis=0)
        nowhere = values.new_zeros(1, values.shape[1])
        for axis in reversed(range(side)) if reverse else range(side):
            padded = torch.cat([at_vertices, nowhere])
            after, before = self._neighbours[axis].unbind(1)
            at_vertices = at_vertices + 0.5 * (padded[after] + padded[before])
        sliced = torch.zeros_like(values)
        for corner in range(side):
            sliced += weights[:, corner, None] * at_vertices[self._corners[:, corner]]
        return sliced / (1 + 2.0 ** (1 - side))


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of N×d points: the quotients N×(d+1) of the vertex with remainder 0, the axes by descending offset from it,
    N×(d+1), and the barycentric weights N×(d+1) of the vertices by remainder (section 3.2)."""
    d = features.shape[1]
    side = d + 1
    scaled = features * torch.from_numpy(elevation(d)).to(features)
    tails = torch.cat([scaled.flip(1).cumsum(1).flip(1), torch.zeros_like(scaled[:, :1])], 1)
    steps = torch.arange(side, device=features.device)
    elevated = (tails - steps * torch.cat([torch.zeros_like(scaled[:, :1]), scaled], 1)) / side
    quotients = elevated.round()
    offset = elevated - quotients
    # Back onto the plane: where the quotients sum to s, the s axes furthest below (above) are lowered (raised).
    excess = quotients.sum(1, keepdim=True)
    rank = offset.argsort(dim=1, descending=True, stable=True).argsort(1) + excess.long()
    shift = (rank < 0).long() - (rank > d).long()
    quotients = quotients.long() + shift
    offset = offset - shift
    order = (rank + side * shift).argsort(1)
    ordered = offset.gather(1, order)
    weights = torch.cat([1 + ordered[:, -1:] - ordered[:, :1], (ordered[:, :-1] - ordered[:, 1:]).flip(1)], 1)
    return quotients, order, weights


def _vertices(quotients: Tensor, order: Tensor, of_set: Tensor) -> Tensor:
    """N×(d+1)×(d+2): for each corner its set, its d first quotients, and its remainder.

    Corner r lies r above corner 0 on every axis, but d + 1 lower on those of the r last in order.
    """
    points, side = quotients.shape
    corner = torch.arange(side, device=quotients.device)
    place = order.argsort(1)
    lowered = place[:, None, :-1] >= (side - corner)[:, None]
    placed = quotients[:, None, :-1] - lowered.long()
    return torch.cat([of_set[:, None, None].expand(-1, side, 1), placed, corner[:, None].expand(points, -1, 1)], dim=2)


def _number_by_keys(vertices: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
    """The corners' numbers N×(d+1), and the neighbours' (d+1)×M×2, M where there is none."""
    stride = torch.from_numpy(keys.stride[:-1]).to(vertices.device)
    key = keys.origin + (vertices[..., 1:-1] * stride).sum(-1) + vertices[..., -1] + vertices[..., 0] * keys.span
    known, corners = torch.unique(key, return_inverse=True)
    side = vertices.shape[-1] - 1
    neighbours = torch.full((side, len(known), 2), len(known), device=key.device)
    wraps = (known - keys.origin) % side == side - 1
    for axis in range(side):
        wanted = known + 1 - int(keys.stride[axis]) + wraps * (int(keys.stride.sum()) - side)
        found = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
        here = (known[found] == wanted).nonzero()[:, 0]
        neighbours[axis, here, 0] = found[here]
        neighbours[axis, found[here], 1] = here
    return corners, neighbours


def _number_by_rows(vertices: Tensor) -> tuple[Tensor, Tensor]:
    """`_number_by_keys` where keys would overflow: slower."""
    points, side, width = vertices.shape
    known, corners = torch.unique(vertices.reshape(-1, width), dim=0, return_inverse=True)
    neighbours = torch.full((side, len(known), 2), len(known), device=vertices.device)
    wraps = known[:, -1:] == side - 1
    for axis in range(side):
        wanted = known.clone()
        wanted[:, 1:-1] += wraps.long()
        if axis < side - 1:
            wanted[:, 1 + axis] -= 1
        wanted[:, -1:] = torch.where(wraps, 0, known[:, -1:] + 1)
        _, number = torch.unique(torch.cat([known, wanted]), dim=0, return_inverse=True)
        both = torch.full((int(number.max()) + 1,), len(known), device=vertices.device)
        both[number[: len(known)]] = torch.arange(len(known), device=vertices.device)
        found = both[number[len(known) :]]
        here = (found < len(known)).nonzero()[:, 0]
        neighbours[axis, here, 0] = found[here]
        neighbours[axis, found[here], 1] = here
    return corners.view(points, side), neighbours
