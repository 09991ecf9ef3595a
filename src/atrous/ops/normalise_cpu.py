"""A photo's values as a network wants them, in one pass over its bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.ops.compiled import njit

Floats = NDArray[np.float32]


def normalise(photo: NDArray[np.uint8], scale: Floats, offset: Floats, out: Floats) -> None:
    """Writes value · scale + offset of each channel, each step rounded.

    Args:
        photo: H×W×C.
        scale, offset: C numbers.
        out: at least as many rows and columns, of which the first H and W are filled.
    """
    _rows(*_in_rows(photo, scale, offset), out.reshape(len(out), -1))


def normalise_to_steps(
    photo: NDArray[np.uint8], scale: Floats, offset: Floats, step: float, zero_point: int, out: NDArray[np.uint8]
) -> None:
    """Writes the steps, from 0 to 255, to which `normalise`'s numbers are rounded."""
    per_step, zero = np.float32(1 / step), np.float32(zero_point)
    _rows_to_steps(*_in_rows(photo, scale, offset), per_step, zero, out.reshape(len(out), -1))


def _in_rows(photo: NDArray[np.uint8], *of_channels: Floats) -> list[NDArray[Any]]:
    """The photo's values row by row, and what goes with each along a row."""
    height, width, channels = photo.shape
    along = (np.broadcast_to(each, (width, channels)).ravel() for each in of_channels)
    return [np.ascontiguousarray(photo).reshape(height, -1), *along]


@njit(nogil=True, cache=True, error_model="numpy")
def _rows(photo, scale, offset, out):  # type: ignore[no-untyped-def]
    for y in range(photo.shape[0]):
        for x in range(photo.shape[1]):
            out[y, x] = np.float32(photo[y, x]) * scale[x] + offset[x]


@njit(nogil=True, cache=True, error_model="numpy")
def _rows_to_steps(photo, scale, offset, per_step, zero, out):  # type: ignore[no-untyped-def]
    for y in range(photo.shape[0]):
        for x in range(photo.shape[1]):
            number = np.float32(photo[y, x]) * scale[x] + offset[x]
            step = np.rint(number * per_step) + zero
            out[y, x] = np.uint8(np.int32(min(max(step, np.float32(0)), np.float32(255))))
