"""Boundary IoU against its definition: each class's mask less its erosion."""

import numpy as np
import pytest
from labelled import labels_of

from atrous.evaluation import BoundaryIoU
from atrous.evaluation.boundary import boundary_distance


def mask_boundary(mask: np.ndarray, distance: int) -> np.ndarray:
    """As the released API: zeros around the mask, a 3×3 erosion `distance` times, the mask less what is left."""
    left = np.pad(mask, 1)
    for _ in range(distance):
        shifted = [np.roll(left, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        left = np.logical_and.reduce(shifted)
        left[[0, -1]] = left[:, [0, -1]] = False
    return mask & ~left[1:-1, 1:-1]


@pytest.mark.parametrize("void", [False, True])
def test_equals_eroding_each_class(void):
    size, classes = (90, 120), 3
    both, either = np.zeros(classes), np.zeros(classes)
    scored = BoundaryIoU(("a", "b", "c"))
    for seed in (1, 2):
        truth, found = labels_of(*size, seed, void=void), labels_of(*size, seed + 10, void=False)
        scored.add(truth, found)
        found = np.where(truth == 255, 255, found)
        for label in range(classes):
            of_truth, of_found = (mask_boundary(labels == label, 3) for labels in (truth, found))
            both[label] += (of_truth & of_found).sum()
            either[label] += (of_truth | of_found).sum()
    assert np.allclose(list(scored.iou.values()), both / either)
    assert scored.mean == pytest.approx((both / either).mean())
    assert 0 < scored.mean < 1


def test_the_distance_is_two_per_cent_of_the_diagonal():
    sizes = {(90, 120): 3, (360, 480): 12, (720, 960): 24, (5, 5): 1}
    assert {size: boundary_distance(*size) for size in sizes} == sizes


def test_the_truth_itself_scores_one_and_the_inside_does_not_count():
    truth = np.zeros((100, 100), np.uint8)
    truth[20:80, 20:80] = 1
    truth[:10] = 255
    exact, hollow = BoundaryIoU(("a", "b", "c")), BoundaryIoU(("a", "b", "c"))
    exact.add(truth, np.where(truth == 255, 0, truth).astype(np.uint8))
    assert exact.iou == {"a": 1.0, "b": 1.0, "c": None}
    found = np.where(truth == 255, 0, truth).astype(np.uint8)
    found[45:55, 45:55] = 2  # deep inside b
    hollow.add(truth, found)
    assert hollow.iou["c"] == 0
    outline = 60 * 60 - 54 * 54
    around_the_hole = (10 + 6) ** 2 - 10 * 10
    assert hollow.iou["b"] == pytest.approx(outline / (outline + around_the_hole))
