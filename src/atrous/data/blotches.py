"""A photo for measuring and comparing, where there is none of the user's."""

import cv2
import numpy as np
from numpy.typing import NDArray


def blotches(height: int, width: int) -> NDArray[np.uint8]:
    """uint8 H×W×3 of soft coloured spots, always the same: it has large regions, and borders between them."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
