"""The same photo twice, also if it was compressed again or made smaller."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ALIKE = 1.5
"""Levels of 255 by which two thumbnails may differ, as a root of mean squares. JPEG at quality 50 changes those of real
photos by .8, at most 1.4; half the size by .4, seldom more than 1.3. CamVid's frames, a fifteenth of a second apart,
differ by 2.1 and more."""
_BLOCK = 512


def find_duplicates(thumbnails: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of thumbnails that show the same photo, in order."""
    if len(thumbnails) < 2:
        return []
    points = np.stack([thumbnail.reshape(-1) for thumbnail in thumbnails]).astype(np.float32)
    # The means of two of them differ by no more than they do themselves: only such of like brightness are compared.
    brightness = points.mean(axis=1)
    order = np.argsort(brightness, kind="stable")
    points, brightness = points[order], brightness[order]
    points -= points.mean(axis=0)  # so that squares of 8 bits keep their small differences in 32
    lengths = np.square(points).sum(axis=1)
    limit = _ALIKE**2 * points.shape[1]
    pairs = []
    for top in range(0, len(points), _BLOCK):
        block = slice(top, top + _BLOCK)
        alike = slice(top, int(np.searchsorted(brightness, brightness[block][-1] + _ALIKE, side="right")))
        distances = lengths[block, None] + lengths[alike] - 2 * points[block] @ points[alike].T
        rows, columns = np.nonzero(distances < limit)
        ahead = rows < columns
        pairs += [sorted(pair) for pair in zip(order[top + rows[ahead]], order[top + columns[ahead]], strict=True)]
    return sorted((int(i), int(j)) for i, j in pairs)
