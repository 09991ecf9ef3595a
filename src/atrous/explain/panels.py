"""Pictures within plots: photos and maps without axes."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atrous.viz import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

SEQUENTIAL = "viridis"
SIGNED = "RdBu_r"  # red for, blue against, white for nothing


def show(axes: "Axes", picture: NDArray[Any], title: str = "", **options: Any) -> "AxesImage":
    """Draws a picture (H×W×3) or a map (H×W); `options` are `imshow`'s."""
    axes.set_axis_off()
    axes.grid(False)
    if title:
        axes.set_title(title, fontsize=9)
    return axes.imshow(picture, **{"cmap": SEQUENTIAL, "interpolation": "nearest", **options})


def differing(
    picture: NDArray[np.uint8], labels: NDArray[np.uint8], others: NDArray[np.uint8], share: float = 0.85
) -> NDArray[np.uint8]:
    """The photo in grey, with the pixels in orange on which two label maps differ."""
    grey = picture.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)
    return overlay(grey, np.where(labels != others, 0, 255).astype(np.uint8), [(255, 60, 0)], share)


def largest(values: NDArray[Any]) -> float:
    """A limit for colours: the largest magnitude but for the highest thousandth, above zero."""
    return float(np.quantile(np.abs(values), 0.999)) or 1.0
