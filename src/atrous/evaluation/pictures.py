"""An evaluation's plots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from atrous.evaluation.calibration import Reliability
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.evaluation.evaluation import Evaluation
from atrous.evaluation.trimap import TrimapCurve
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WRITTEN_OUT = 21  # with more classes the numbers in the matrix would not be read


def class_bars(evaluation: Evaluation, palette: Sequence[Sequence[int]]) -> "Figure":
    """Each class's IoU, the best on top, in the class's own colour; absent classes are left out."""
    scores = evaluation.scores
    colours = dict(zip(scores.iou, palette, strict=True))
    bars = sorted((value, name) for name, value in scores.iou.items() if value is not None)
    figure = plots.figure(8, max(2.0, 0.8 + 0.28 * len(bars)))
    axes = figure.subplots()
    values = [100 * value for value, _ in bars]
    fills = [np.array(colours[name]) / 255 for _, name in bars]
    drawn = axes.barh(range(len(bars)), values, color=fills, edgecolor="#444", linewidth=0.6)
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the line of the mean runs behind the numbers
    axes.bar_label(drawn, [f"{value:.1f}" for value in values], padding=3, fontsize=9, bbox=backing)
    axes.set_yticks(range(len(bars)), [name for _, name in bars])
    axes.axvline(100 * scores.miou, color="#444", linestyle="--", linewidth=1, zorder=2)
    axes.set(xlim=(0, 105), xlabel="IoU (%)", ylim=(-0.6, len(bars) - 0.4))
    axes.grid(axis="y", visible=False)
    return figure


def confusion(matrix: ConfusionMatrix) -> "Figure":
    """The matrix with each row as shares of its class, written in where there is room."""
    shares = 100 * matrix.counts / np.maximum(1, matrix.counts.sum(1, keepdims=True))
    count = len(matrix.classes)
    side = max(4.0, min(14.0, 2.0 + 0.55 * count))
    figure = plots.figure(side + 0.6, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    if count <= _WRITTEN_OUT:
        for row, column in np.argwhere(shares >= 0.5):
            ink = "white" if shares[row, column] > 55 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=8)
    size = 9 if count <= _WRITTEN_OUT else max(3, 160 / count)
    axes.set_xticks(range(count), matrix.classes, rotation=90, fontsize=size)
    axes.set_yticks(range(count), matrix.classes, fontsize=size)
    axes.set(xlabel="prediction", ylabel="truth")
    axes.grid(visible=False)
    figure.colorbar(picture, label="% of the true class", shrink=0.7)
    return figure


def trimap(curve: TrimapCurve) -> "Figure":
    """Both scores against the band's width."""
    figure = plots.figure(8, 4)
    axes = figure.subplots()
    for name, values in (("mean IoU", curve.miou), ("pixel accuracy", curve.pixel_accuracy)):
        axes.plot(curve.widths, [100 * value for value in values], label=name)
    outline = "void" if curve.around == "void" else "the edges of the labels"
    axes.set(xlabel=f"at most so many pixels from {outline}", ylabel="%", xlim=(0, curve.widths[-1]))
    axes.legend(loc="lower right")
    return figure


def reliability(found: Reliability) -> "Figure":
    """Accuracy against confidence, and below it how many pixels have that confidence."""
    figure = plots.figure(6, 6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lefts, width = [100 * edge for edge in found.edges[:-1]], 100 * (found.edges[1] - found.edges[0])
    above.bar(lefts, [100 * (value or 0) for value in found.accuracy], width, align="edge", edgecolor="white")
    above.plot([0, 100], [0, 100], color="#444", linestyle="--", linewidth=1)
    above.set(ylabel="right (%)", xlim=(0, 100), ylim=(0, 100))
    above.text(4, 90, f"expected calibration error {found.error:.2%}", fontsize=10)
    total = max(1, sum(found.pixels))
    below.bar(lefts, [100 * count / total for count in found.pixels], width, align="edge", edgecolor="white")
    below.set(xlabel="probability of the winning class (%)", ylabel="% of pixels", ylim=(0, 100))
    return figure


def legend(names: Sequence[str], palette: Sequence[Sequence[int]]) -> "Figure":
    """The classes' colours with their names."""
    longest = max(map(len, names))
    columns = 4 if longest <= 22 else 3 if longest <= 30 else 2
    rows = -(-len(names) // columns)
    figure = plots.figure(8, 0.2 + 0.25 * rows)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    for index, (name, colour) in enumerate(zip(names, palette, strict=True)):
        row, column = divmod(index, columns)
        axes.fill_between((column, column + 0.08), row + 0.2, row + 0.8, color=np.array(colour) / 255)
        axes.text(column + 0.12, row + 0.5, name, va="center", fontsize=9)
    return figure
