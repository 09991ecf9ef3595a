"""Receptive fields: which pixels a position of a layer depends on at all, and on which it does in effect.

The theoretical field is exact, from the network's own layers (see `dependence`). The effective one is that of Luo et
al. (arXiv 1701.04128): how large the gradient of the position is at each pixel, here the root of the mean square over
images and over random signs for the layer's channels. It is far smaller, and bell-shaped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.explain.dependence import Dependence
from atrous.explain.layers import outputs_of
from atrous.explain.panels import show
from atrous.explain.photo import Photo
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STRIPS = (1025, 8193)  # lengths, in pixels, in which a field is looked for
_BREADTH = 129
_HELD = (0.5, 0.95)

Extent = tuple[int, int]


@dataclass(frozen=True)
class ReceptiveField:
    """What one position of a layer sees of an image.

    Attributes:
        layer: its name; "" is the coarse logits.
        position: (row, column) on the layer's map.
        centre: the pixel in the middle of what it sees.
        stride: pixels between two positions.
        extent: (height, width) in pixels of the theoretical field on an image without end; None is the whole image, or
            beyond 8,000 pixels.
        theoretical: H×W, whether the position depends on a pixel of this image.
        effective: H×W, how much it does: the gradient's root mean square.
        picture: the photo, uint8 H×W×3; None of noise.
    """

    layer: str
    position: tuple[int, int]
    centre: tuple[int, int]
    stride: int
    extent: Extent | None
    theoretical: NDArray[np.bool_]
    effective: NDArray[np.float32]
    picture: NDArray[np.uint8] | None = None

    def side_holding(self, share: float) -> int:
        """The side of the square around the centre that holds so much of all gradient, in pixels."""
        rows, columns = np.ogrid[: self.effective.shape[0], : self.effective.shape[1]]
        distance = np.maximum(abs(rows - self.centre[0]), abs(columns - self.centre[1]))
        held = np.bincount(distance.ravel(), self.effective.astype(np.float64).ravel()).cumsum()
        return 2 * int(np.searchsorted(held, share * held[-1])) + 1

    def numbers(self) -> dict[str, Any]:
        return {
            "layer": self.layer or "logits",
            "stride": self.stride,
            "theoretical": list(self.extent) if self.extent else None,
            "image": list(self.theoretical.shape),
            "seen": float(self.theoretical.mean()),
            **{f"side_with_{share:.0%}": self.side_holding(share) for share in _HELD},
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"theoretical": self.theoretical, "effective": self.effective, "centre": np.array(self.centre)}

    def plot(self) -> "Figure":
        """The gradient at each pixel, the theoretical field as a frame, and both along the row of the centre."""
        width = self.effective.shape[1]
        figure = plots.figure(9.5, 4.6 if self.picture is None else 4.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
        name = self.layer or "the coarse logits"
        seen = "the whole image" if self.extent is None else f"{self.extent[0]}×{self.extent[1]} pixels"
        figure.suptitle(f"{name}: theoretical field {seen}, stride {self.stride}", fontsize=11)
        strength = np.minimum(np.sqrt(self.effective / (np.quantile(self.effective, 0.999) or 1)), 1)
        if self.picture is not None:
            show(left, 0.45 * np.asarray(self.picture, dtype=np.float32).mean(2), cmap="gray", vmin=0, vmax=255)
        show(left, strength, vmin=0, vmax=1, cmap="inferno", alpha=None if self.picture is None else strength)
        if not self.theoretical.all():
            left.contour(self.theoretical, levels=[0.5], colors=plots.COLOURS[5], linewidths=1.5)
        left.plot(self.centre[1], self.centre[0], "+", color=plots.COLOURS[5], markersize=10, markeredgewidth=2)
        left.set_title("how much each pixel counts (root of the gradient)", fontsize=9)
        profile = self.effective.sum(0)
        places = np.arange(width) - self.centre[1]
        right.plot(places, profile / (profile.max() or 1), linewidth=1)
        columns = places[self.theoretical.any(0)]
        right.axvspan(columns[0], columns[-1], color=plots.COLOURS[0], alpha=0.12, label="theoretical, in this image")
        for share, colour in zip(_HELD, plots.COLOURS[1:], strict=False):
            side = self.side_holding(share)
            for sign, label in ((-1, f"{share:.0%} within {side}×{side}"), (1, None)):
                right.axvline(sign * side / 2, color=colour, linestyle="--", linewidth=1, label=label)
        right.set(xlabel="pixels from the centre", ylabel="gradient of a column, relative", ylim=(0, 1.35))
        right.set(xlim=(places[0], places[-1]))
        right.legend(fontsize=8, loc="upper right")
        return figure


def extents(model: nn.Module, layers: Iterable[str]) -> dict[str, Extent | None]:
    """The (height, width) in pixels of each layer's theoretical field; None is the whole image, or over 8,000 pixels.

    Args:
        model: takes N×3×H×W.
        layers: names as in `named_modules`; "" is the coarse logits, or the model's own output.

    Raises:
        AtrousError: a layer that the model does not have or does not run.
    """
    dependence = Dependence(model)
    sides: dict[str, list[int | None]] = {name: [] for name in layers}
    for axis in (0, 1):
        left = list(sides)
        for length in _STRIPS:
            size = (length, _BREADTH) if axis == 0 else (_BREADTH, length)
            found = {name: _ends(mask, axis) for name, mask in dependence.on(left, size).items()}
            whole = [name for name, (first, last) in found.items() if first == 0 or last == length - 1]
            for name in left:
                if name not in whole:
                    sides[name].append(found[name][1] - found[name][0] + 1)
            left = whole
            if not left:
                break
        for name in left:
            sides[name].append(None)
    return {name: None if None in (rows, columns) else (rows, columns) for name, (rows, columns) in sides.items()}  # type: ignore[misc]


def _ends(mask: Tensor, axis: int) -> tuple[int, int]:
    places = mask.any(1 - axis).nonzero()
    if not len(places):
        raise AtrousError("a layer depends on no pixel at all: give one that the image goes through")
    return int(places[0]), int(places[-1])


def receptive_field(
    model: nn.Module,
    layer: str = "",
    *,
    photo: Photo | None = None,
    size: int = 513,
    position: tuple[int, int] | None = None,
    samples: int = 8,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> ReceptiveField:
    """The theoretical and the effective receptive field of one position of a layer.

    Args:
        model: takes N×3×H×W; it is run in evaluation mode.
        layer: its name, as in `named_modules`; "" is the coarse logits, or the model's own output.
        photo: the gradient is taken on this photo, else on `samples` images of noise.
        size: the side of such an image, in pixels.
        position: a pixel (row, column) of the image, by which the layer's position is found; the centre if not given.
        samples: how many times random signs, and noise, are drawn.
        progress: called with the share that is done since the last call, 1.0 in all.

    Raises:
        AtrousError: a layer that the model does not have or does not run, or a pixel outside the image.
    """
    if samples < 1 or size < 1:
        raise AtrousError(f"samples={samples} and size={size} must be at least 1")
    height, width = photo.picture.shape[:2] if photo else (size, size)
    pixel = (height // 2, width // 2) if position is None else position
    if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise AtrousError(f"position {pixel} is no pixel of an image of {height}×{width} (row, column)")
    weight = next(model.parameters(), torch.zeros(()))
    seen_size = (photo.tensor.shape[-2], photo.tensor.shape[-1]) if photo else (height, width)
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(seen_size, dtype=torch.float64)
    dependence = Dependence(model)
    stride = dependence.strides([layer])[layer]
    trained = model.training
    model.eval()
    try:
        for _ in range(samples):
            drawn = photo.tensor if photo else torch.randn(1, 3, *seen_size, generator=generator)
            image = drawn.to(weight).requires_grad_()
            output = outputs_of(model, image, [layer])[layer]
            row, column = (min(round(at / stride), n - 1) for at, n in zip(pixel, output.shape[-2:], strict=True))
            signs = torch.randint(0, 2, (output.shape[1],), generator=generator) * 2.0 - 1
            (gradient,) = torch.autograd.grad((output[0, :, row, column] * signs.to(weight)).sum(), image)
            squares += gradient[0].double().square().sum(0).cpu()
            progress(1 / samples)
    finally:
        model.train(trained)
    effective = (squares / samples).sqrt().float().numpy()
    theoretical = dependence.on([layer], seen_size, (row, column))[layer].numpy()
    return ReceptiveField(
        layer=layer,
        position=(row, column),
        centre=_centre(theoretical, (row, column), stride),
        stride=stride,
        extent=extents(model, [layer])[layer],
        theoretical=theoretical[:height, :width],
        effective=effective[:height, :width],
        picture=photo.picture if photo else None,
    )


def _centre(theoretical: NDArray[np.bool_], place: tuple[int, int], stride: int) -> tuple[int, int]:
    """The middle of the field, or what the stride says where the image's border cuts the field."""
    middle = []
    for axis in (0, 1):
        seen = np.flatnonzero(theoretical.any(1 - axis))
        cut = seen[0] == 0 or seen[-1] == theoretical.shape[axis] - 1
        middle.append(place[axis] * stride if cut else int(seen[0] + seen[-1]) // 2)
    return middle[0], middle[1]
