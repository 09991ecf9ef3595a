"""Made-up label maps."""

import numpy as np


def labels_of(height: int, width: int, seed: int, classes: int = 3, void: bool = True) -> np.ndarray:
    """uint8 labels in blotches, with specks, and void among them."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, classes, (height // 6 + 1, width // 6 + 1), dtype=np.uint8)
    labels = np.kron(coarse, np.ones((6, 6), np.uint8))[:height, :width].copy()
    specks = random.random((height, width)) < 0.02
    labels[specks] = random.integers(0, classes, int(specks.sum()))
    if void:
        labels[random.random((height, width)) < 0.01] = 255
    return labels
