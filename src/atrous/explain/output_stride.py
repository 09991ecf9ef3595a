"""What downsampling loses: one model, one photo, several output strides (v3, section 4; v2, section 3.1).

The weights stay; strides become rates. What goes first is what is thin, so the labels of the finest stride are sorted
by how thin they are, and it is counted how many of them the coarser ones still give.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data import ImageSource, read_image
from atrous.errors import AtrousError
from atrous.explain.panels import differing, show
from atrous.inference import Predictor
from atrous.viz import overlay, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIDES = (8, 16, 32)
WIDTHS = (4, 8, 16, 32, 64)

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class OutputStrides:
    """A photo's labels at several output strides.

    Attributes:
        picture: the photo, uint8 H×W×3.
        strides: the finest first.
        labels: uint8 H×W for each stride.
        classes, palette: the model's.
        thickness: uint8 H×W: in which range of `ranges` the structure that a pixel belongs to is, in the labels of
            the finest stride.
    """

    picture: NDArray[np.uint8]
    strides: tuple[int, ...]
    labels: tuple[Labels, ...]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    thickness: NDArray[np.uint8]

    @property
    def ranges(self) -> list[str]:
        """Of thickness, in pixels; of the last there is no upper end."""
        return [f"{low + 1} to {high}" for low, high in pairwise((0, *WIDTHS))] + [f"over {WIDTHS[-1]}"]

    @property
    def kept(self) -> NDArray[np.float64]:
        """Strides × ranges: of the finest labels of a thickness, the share that a stride gives too; NaN of none."""
        kept = np.full((len(self.strides), len(self.ranges)), np.nan)
        for column in range(len(self.ranges)):
            there = self.thickness == column
            if there.any():
                kept[:, column] = [np.mean(labels[there] == self.labels[0][there]) for labels in self.labels]
        return kept

    @property
    def changed(self) -> list[float]:
        """The share of the photo whose label is not that of the finest stride."""
        return [float(np.mean(labels != self.labels[0])) for labels in self.labels]

    def numbers(self) -> dict[str, Any]:
        kept = [[None if np.isnan(share) else float(share) for share in row] for row in self.kept]
        return {
            "strides": list(self.strides),
            "changed": self.changed,
            "thickness": self.ranges,
            "kept": kept,
            "areas": [
                {name: float(np.mean(labels == index)) for index, name in enumerate(self.classes)}
                for labels in self.labels
            ],
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        labels = {f"labels_{stride}": labels for stride, labels in zip(self.strides, self.labels, strict=True)}
        return {**labels, "thickness": self.thickness, "kept": self.kept}

    def plot(self) -> "Figure":
        """The labels of each stride, where they are not those of the finest, and what is kept by thickness."""
        height, width = self.labels[0].shape
        count = len(self.strides)
        side = 11 / count
        figure = plots.figure(11, 2 * side * height / width + 3.4)
        grid = figure.add_gridspec(3, count, height_ratios=(side * height / width, side * height / width, 2.6))
        for column, (stride, labels) in enumerate(zip(self.strides, self.labels, strict=True)):
            shown = overlay(self.picture, labels, self.palette, 0.6)
            show(figure.add_subplot(grid[0, column]), shown, f"output stride {stride}")
            panel = figure.add_subplot(grid[1, column])
            if column == 0:
                show(panel, self.picture, "the photo")
                continue
            title = f"{self.changed[column]:.1%} are not what {self.strides[0]} says"
            show(panel, differing(self.picture, labels, self.labels[0]), title)
        axes = figure.add_subplot(grid[2, :])
        places = np.arange(len(self.ranges))
        for index, (stride, kept) in enumerate(zip(self.strides[1:], self.kept[1:], strict=True)):
            breadth = 0.8 / max(count - 1, 1)
            axes.bar(places + (index - (count - 2) / 2) * breadth, kept, breadth * 0.95, label=f"stride {stride}")
        present = np.bincount(self.thickness.ravel(), minlength=len(self.ranges)) / self.thickness.size
        axes.set_xticks(places, [f"{name} px\n({share:.1%})" for name, share in zip(self.ranges, present, strict=True)])
        axes.set(ylim=(0, 1), ylabel="labels kept", xlabel="thickness of the structure (its share of the photo)")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        return figure


def output_strides(
    predictor: Predictor,
    photo: ImageSource,
    strides: Sequence[int] = STRIDES,
    progress: Callable[[float], None] = lambda share: None,
) -> OutputStrides:
    """Labels a photo at each output stride; the model is left at its own.

    Args:
        strides: two or more of those that the model can run at; the finest is what the others are compared with.
        progress: called with the share that is done since the last call, 1.0 in all.

    Raises:
        AtrousError: a stride that the model cannot run at, or a photo that cannot be read.
    """
    chosen = tuple(sorted(set(strides)))
    if len(chosen) < 2:
        raise AtrousError(f"output strides {tuple(strides)}: give two or more to compare, e.g. 8,16,32")
    picture = read_image(photo)
    model = predictor.model
    own = model.output_stride
    labels = []
    try:
        for stride in chosen:
            model.set_output_stride(stride)
            labels.append(predictor(picture).labels)
            progress(1 / len(chosen))
    finally:
        model.set_output_stride(own)
    return OutputStrides(
        picture, chosen, tuple(labels), predictor.classes, tuple(predictor.card.palette), thickness(labels[0])
    )


def thickness(labels: Labels) -> NDArray[np.uint8]:
    """How thin each pixel's structure is: the n-th range of thickness, for which no wider square of one label holds it.

    0 stands for up to 4 pixels (no square of 5×5 holds the pixel), 5 for more than 64. What the photo's border cuts is
    taken to go on behind it.
    """
    found = np.zeros(labels.shape, dtype=np.uint8)
    for width in WIDTHS:
        inside = np.zeros(labels.shape, dtype=bool)
        for label in np.unique(labels):
            mask = (labels == label).astype(np.uint8)
            inside |= cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((width + 1, width + 1), np.uint8)) > 0
        found += inside
    return found
