"""What the loops over a pixel's classes share: the exponential function, and a pixel's classes from coarse logits.

All is written so that a loop over the classes becomes vector instructions: no calls, no branches, and no remainder.
"""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from atrous.ops.compiled import njit

# e^x = 2^n · e^r with n whole and |r| <= ln 2 / 2; ln 2 in two parts, so that n · ln 2 is taken off without rounding.
LOG2_E = 1.4426950408889634
LN_2_HIGH, LN_2_LOW = 0.693359375, -2.12194440e-4
# Our least-maximum fit of (e^r - 1 - r) / r² there; e^r comes out within 3e-9 of itself before it is rounded.
EXP_P4, EXP_P3, EXP_P2, EXP_P1, EXP_P0 = 1.381447775e-3, 8.368780128e-3, 4.166839403e-2, 0.1666652011, 0.4999999341
_SMALLEST = -87.0  # e^-87 is 1.6e-38, close to the smallest normal number


@intrinsic  # type: ignore[untyped-decorator]
def _power_of_two(_context: Any, n: Any) -> Any:
    """2^n as float32, for a whole float32 n from -126 to 127: n goes where a number keeps its exponent."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        whole = builder.add(builder.fptosi(args[0], i32), ir.Constant(i32, 127))
        return builder.bitcast(builder.shl(whole, ir.Constant(i32, 23)), ir.FloatType())

    return types.float32(types.float32), build


@intrinsic  # type: ignore[untyped-decorator]
def _nearest(_context: Any, x: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [ir.FloatType()]), args)

    return types.float32(types.float32), build


@njit(inline="always")
def exp(x):  # type: ignore[no-untyped-def]
    """e^x for float32 x <= 0, within three units in the last place; below -87 it is 0."""
    f = np.float32
    kept = max(x, f(_SMALLEST))
    n = _nearest(kept * f(LOG2_E))
    r = kept - n * f(LN_2_HIGH)
    r = r - n * f(LN_2_LOW)
    p = f(EXP_P4)
    p = p * r + f(EXP_P3)
    p = p * r + f(EXP_P2)
    p = p * r + f(EXP_P1)
    p = p * r + f(EXP_P0)
    value = (p * r * r + r + f(1)) * _power_of_two(n)
    return value if x >= f(_SMALLEST) else f(0)


_LANES = 8


def padded_channels_last(logits: Tensor) -> NDArray[np.float32]:
    """N×K×h×w logits as float32 N×h×w×K', with classes far below all others up to a multiple of the lanes."""
    n, classes, h, w = logits.shape
    size = n, h, w, -(-classes // _LANES) * _LANES
    padded = torch.full(size, -1e30, dtype=torch.float32, device="cpu")
    padded[..., :classes] = logits.detach().permute(0, 2, 3, 1)
    return padded.numpy()


@njit(nogil=True, inline="always")
def blend(above, below, weight, row, largest):  # type: ignore[no-untyped-def]
    """A row between two coarse ones, and the largest logit at each of its positions."""
    for x in range(row.shape[0]):
        high = np.float32(-3e38)
        for k in range(row.shape[1]):
            value = above[x, k] + weight * (below[x, k] - above[x, k])
            row[x, k] = value
            high = max(high, value)
        largest[x] = high


@njit(nogil=True, inline="always")
def exponentials(row, largest, a, b, right, e):  # type: ignore[no-untyped-def]
    """Fills e with e^(logit - bound) of one pixel's classes; returns their sum and the bound.

    The bound is no less than any of its logits, and close to the largest unless the corners are worlds apart.
    """
    bound = largest[a] + right * (largest[b] - largest[a])
    total = np.float32(0)
    for k in range(len(e)):
        e[k] = exp(row[a, k] + right * (row[b, k] - row[a, k]) - bound)
        total += e[k]
    if total < np.float32(1e-20):
        bound = np.float32(-3e38)
        for k in range(len(e)):
            bound = max(bound, row[a, k] + right * (row[b, k] - row[a, k]))
        total = np.float32(0)
        for k in range(len(e)):
            e[k] = exp(row[a, k] + right * (row[b, k] - row[a, k]) - bound)
            total += e[k]
    return total, bound
