"""Boundary IoU: the overlap of the outlines' inner sides (Cheng et al., CVPR 2021, section 4)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.evaluation.confusion import Counts, Labels, mean, shares

_RATIO = 0.02  # of the image's diagonal


class BoundaryIoU:
    """Each class's boundary pixels in truth, in prediction and in both, over all images.

    A class's boundary pixels are those of its own that lie at most d pixels (rows and columns counted separately) from
    one that is not, or from the outside of the image; d is 2 % of the image's diagonal. Void is cut out of the
    prediction too, so that no outline is asked for where nobody drew one.
    """

    def __init__(self, classes: tuple[str, ...], ignore_index: int = 255) -> None:
        self.classes, self.ignore_index = classes, ignore_index
        self._both: Counts = np.zeros(len(classes), np.int64)
        self._either: Counts = np.zeros(len(classes), np.int64)

    def add(self, truth: Labels, prediction: Labels) -> None:
        """Adds one image, as `ConfusionMatrix.add`."""
        judged = truth != self.ignore_index
        distance = boundary_distance(*truth.shape)
        found = np.where(judged, prediction, np.uint8(self.ignore_index))
        of_truth = boundary(truth, distance) & judged
        of_found = boundary(found, distance) & judged
        both = self._per_class(truth[of_truth & of_found & (truth == found)])
        self._both += both
        self._either += self._per_class(truth[of_truth]) + self._per_class(found[of_found]) - both

    def merge(self, other: "BoundaryIoU") -> None:
        """Adds what another one has counted."""
        self._both = self._both + other._both
        self._either = self._either + other._either

    @property
    def iou(self) -> dict[str, float | None]:
        """Each class's boundary IoU; None where it occurs in neither."""
        return shares(self.classes, self._both, self._either)

    @property
    def mean(self) -> float:
        """The mean of `iou` over the classes that occur in truth or prediction."""
        return mean(self.iou)

    def _per_class(self, labels: Labels) -> Counts:
        return np.bincount(labels, minlength=len(self.classes))


def boundary_distance(height: int, width: int) -> int:
    """d in pixels: 12 for 360 × 480."""
    return max(1, round(_RATIO * float(np.hypot(height, width))))


def boundary(labels: Labels, distance: int) -> NDArray[np.bool_]:
    """bool H×W: the pixels at most so far from another label, or from the outside of the image.

    One pass for all classes: the mask of a class less its erosion by a square is where the square around a pixel of
    that class holds another label too.
    """
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    mixed: NDArray[np.bool_] = cv2.erode(labels, square) != cv2.dilate(labels, square)
    mixed[:distance] = mixed[-distance:] = True
    mixed[:, :distance] = mixed[:, -distance:] = True
    return mixed
