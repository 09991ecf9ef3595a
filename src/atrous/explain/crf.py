"""The fully connected CRF, iteration by iteration (v1, section 4.2 and figure 2; v2, section 3.3).

Before the first, Q is what the network says of each pixel. In each iteration every pixel hears from all others, the
more the nearer they are and the more alike in colour; edges move to where the photo has them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.crf import CRFParams, DenseCRF, unary_from_logits
from atrous.data import ImageSource
from atrous.errors import AtrousError
from atrous.explain.panels import differing, show
from atrous.explain.photo import prepare
from atrous.inference import Predictor
from atrous.viz import overlay, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 5  # states in the picture


@dataclass(frozen=True)
class CRFIterations:
    """A photo's labels, and the probability of one class, before the CRF and after each of its iterations.

    Attributes:
        picture: the photo, uint8 H×W×3.
        classes, palette: the model's.
        followed: the index of the class whose probability is kept.
        labels: (iterations + 1)×H×W, uint8.
        q: (iterations + 1)×H×W, float32, the followed class's probability.
        energy: KL(Q ‖ P) but for a constant, one a state: what mean-field inference makes small.
    """

    picture: NDArray[np.uint8]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    followed: int
    labels: NDArray[np.uint8]
    q: NDArray[np.float32]
    energy: NDArray[np.float64]

    @property
    def changed(self) -> list[float]:
        """The share of the photo whose label an iteration changes, one an iteration."""
        return [
            float(np.mean(after != before)) for before, after in zip(self.labels[:-1], self.labels[1:], strict=True)
        ]

    def numbers(self) -> dict[str, Any]:
        return {
            "iterations": len(self.q) - 1,
            "followed": self.classes[self.followed],
            "changed": self.changed,
            "changed_in_all": float(np.mean(self.labels[-1] != self.labels[0])),
            "energy": self.energy.tolist(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"labels": self.labels, "q": self.q.astype(np.float16), "energy": self.energy}

    def plot(self) -> "Figure":
        """Labels and the followed class's Q at some of the states; beneath, how much each iteration still changes."""
        height, width = self.picture.shape[:2]
        last = len(self.q) - 1
        # More of the first iterations, which do the most.
        states = sorted({round(last * (i / (_SHOWN - 1)) ** 2) for i in range(_SHOWN)} | {0, min(1, last), last})
        columns = len(states) + 1
        tall = 2.4 * height / width
        figure = plots.figure(2.4 * columns + 0.6, 2 * tall + 3.2)
        grid = figure.add_gridspec(3, columns, height_ratios=(tall, tall, 2.2))
        show(figure.add_subplot(grid[0, 0]), self.picture, "the photo")
        moved = differing(self.picture, self.labels[-1], self.labels[0])
        show(figure.add_subplot(grid[1, 0]), moved, f"{np.mean(self.labels[-1] != self.labels[0]):.1%} change in all")
        panels = []
        for column, state in enumerate(states, 1):
            title = "the network alone" if state == 0 else f"iteration {state}"
            shown = overlay(self.picture, self.labels[state], self.palette, 0.7)
            show(figure.add_subplot(grid[0, column]), shown, title)
            panels.append(figure.add_subplot(grid[1, column]))
            drawn = show(panels[-1], self.q[state], f"Q of {self.classes[self.followed]}", vmin=0, vmax=1)
        figure.colorbar(drawn, ax=panels[-1])
        left = figure.add_subplot(grid[2, : columns // 2])
        left.bar(np.arange(1, last + 1), [100 * share for share in self.changed])
        left.set(xlabel="iteration", ylabel="labels changed, %")
        right = figure.add_subplot(grid[2, columns // 2 :])
        right.plot(np.arange(last + 1), self.energy - self.energy[-1], marker=".")
        right.yaxis.tick_right()
        right.yaxis.set_label_position("right")
        right.set(xlabel="iteration", ylabel="KL(Q ‖ P), above the last")
        return figure


def crf_iterations(
    predictor: Predictor,
    photo: ImageSource,
    params: CRFParams | None = None,
    iterations: int = 10,
    follow: str | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> CRFIterations:
    """Refines a photo's labels with the CRF and keeps every state; a side above 1025 pixels is made smaller.

    Args:
        params: of its two kernels; those of v2's ResNet-101 if not given.
        iterations: 10 in the papers.
        follow: the class whose Q is kept; the one whose area changes most if not given.
        progress: called with the share that is done since the last call, 1.0 in all.

    Raises:
        AtrousError: fewer than one iteration, a class that the model does not know, or a photo that cannot be read.
    """
    if iterations < 1:
        raise AtrousError(f"iterations={iterations}: give 1 or more")
    if follow is not None and follow not in predictor.classes:
        raise AtrousError(f"no class {follow!r}: the model knows {', '.join(predictor.classes)}")
    seen = prepare(predictor, photo)
    height, width, _ = seen.picture.shape
    params = params or CRFParams()
    with torch.inference_mode():
        logits = predictor.model(seen.tensor)[0, :, :height, :width].float()
        crf = DenseCRF(unary_from_logits(logits))
        crf.add_gaussian(params.gaussian_sxy, params.gaussian_weight)
        image = torch.from_numpy(seen.picture.copy())  # an array that was given may be read-only
        crf.add_bilateral(image, params.bilateral_sxy, params.bilateral_srgb, params.bilateral_weight)
        states: list[Tensor] = []  # in half precision: K×H×W of each are kept until the class is chosen
        winners, energy = [], []
        for iteration in range(iterations + 1):
            if iteration:
                crf.step()
                progress(1 / iterations)
            states.append(crf.q.half())
            winners.append(crf.q.argmax(0).byte())
            energy.append(crf.kl())
        labels = torch.stack(winners).numpy(force=True)
        index = _most_changed(labels, len(predictor.classes)) if follow is None else predictor.classes.index(follow)
        followed = torch.stack([q[index] for q in states]).float().numpy(force=True)
    return CRFIterations(
        picture=seen.picture,
        classes=predictor.classes,
        palette=tuple(predictor.card.palette),
        followed=index,
        labels=labels,
        q=followed,
        energy=np.array(energy),
    )


def _most_changed(labels: NDArray[np.uint8], classes: int) -> int:
    first, last = labels[0], labels[-1]
    moved = [np.count_nonzero((first == index) != (last == index)) for index in range(classes)]
    return int(np.argmax(moved))
