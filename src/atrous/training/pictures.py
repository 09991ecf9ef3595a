"""A run's plots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from atrous.evaluation import Evaluation
from atrous.training.history import History, best_epoch
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(history: History) -> "Figure":
    """Loss, scores and learning rate of a run of at least one epoch, one below the other, against its epochs."""
    judged = [row for row in history if "miou" in row]
    epochs = [row["epoch"] for row in history]
    point = "o" if len(epochs) < 40 else None  # a single epoch is no line
    figure = plots.figure(8, 7.5 if judged else 5)
    axes = figure.subplots(3 if judged else 2, 1, sharex=True)
    axes[0].plot(epochs, [row["loss"] for row in history], marker=point, markersize=3)
    highest = max(row["loss"] for row in history)
    axes[0].set(ylabel="loss", ylim=(0, 1.05 * highest if highest > 0 else None))
    if judged:
        at = [row["epoch"] for row in judged]
        for name, key in (("mean IoU", "miou"), ("pixel accuracy", "pixel_accuracy")):
            axes[1].plot(at, [100 * row[key] for row in judged], marker="o", markersize=3, label=name)
        best = next(row for row in judged if row["epoch"] == best_epoch(history))
        axes[1].plot(best["epoch"], 100 * best["miou"], "o", color="#444", fillstyle="none", markersize=9)
        axes[1].annotate(
            f"{100 * best['miou']:.1f}",
            (best["epoch"], 100 * best["miou"]),
            xytext=(0, -18 if best["miou"] > 0.2 else 10),
            textcoords="offset points",
            ha="center",
        )
        axes[1].set(ylabel="%", ylim=(0, 100))
        axes[1].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)  # above: the curves may be anywhere
    axes[-1].plot(epochs, [row["learning_rate"] for row in history], marker=point, markersize=3)
    axes[-1].set(ylabel="learning rate", xlabel="epoch", ylim=(0, None))
    axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def classes(evaluation: Evaluation, palette: Sequence[Sequence[int]], shares: NDArray[np.float64] | None) -> "Figure":
    """Each class's IoU in its own colour, in their order, and beside it its share of the training pixels.

    Args:
        shares: K numbers; None draws the IoU alone.
    """
    scores = evaluation.scores
    names, places = list(scores.iou), range(len(scores.iou))
    figure = plots.figure(9, max(2.0, 0.9 + 0.28 * len(names)))
    grid = figure.subplots(1, 1 if shares is None else 2, sharey=True, squeeze=False)
    left, *right = grid[0]
    values = [100 * (value or 0) for value in scores.iou.values()]
    fills = [np.array(colour) / 255 for colour in palette]
    drawn = left.barh(places, values, color=fills, edgecolor="#444", linewidth=0.6)
    told = ["absent" if value is None else f"{100 * value:.1f}" for value in scores.iou.values()]
    backing = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the line of the mean runs behind the numbers
    left.bar_label(drawn, told, padding=3, fontsize=9, bbox=backing)
    left.set_yticks(places, names)
    left.axvline(100 * scores.miou, color="#444", linestyle="--", linewidth=1, zorder=2)
    left.set(xlim=(0, 112), xlabel="IoU (%)", ylim=(len(names) - 0.4, -0.6))
    left.grid(axis="y", visible=False)
    if shares is not None:
        least = 10 ** np.floor(np.log10(100 * shares[shares > 0].min(initial=1)))
        drawn = right[0].barh(places, 100 * shares, color="#999", edgecolor="#444", linewidth=0.6)
        right[0].bar_label(drawn, [f"{100 * share:.3g}" for share in shares], padding=3, fontsize=9)
        right[0].set(xscale="log", xlim=(least, 500), xlabel="% of the training pixels")
        right[0].xaxis.set_major_formatter("{x:g}")
        right[0].grid(axis="y", visible=False)
    return figure
