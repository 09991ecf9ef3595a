"""A photo's values as a network wants them, in one pass over its bytes."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def normalise(photo: NDArray[np.uint8], scale: Floats, offset: Floats, out: Floats) -> None:
    """Writes value · scale + offset of each channel, each step rounded.

    Args:
        photo: H×W×C.
        scale, offset: C numbers.
        out: at least as many rows and columns, of which the first H and W are filled.
    """
    height, width, channels = photo.shape
    along = [np.broadcast_to(each, (width, channels)).ravel() for each in (scale, offset)]
    _rows(np.ascontiguousarray(photo).reshape(height, -1), *along, out.reshape(len(out), -1))


@njit(nogil=True, cache=True, error_model="numpy")
def _rows(photo, scale, offset, out):  # type: ignore[no-untyped-def]
    for y in range(photo.shape[0]):
        for x in range(photo.shape[1]):
            out[y, x] = np.float32(photo[y, x]) * scale[x] + offset[x]
