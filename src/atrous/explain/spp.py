"""The bins of spatial pyramid pooling (He et al., arXiv 1406.4729, section 2.2), ASPP's ancestor.

A map of any size becomes a vector of fixed length: the largest value in each of n×n bins, for several n.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.data import ImageSource
from atrous.errors import AtrousError
from atrous.explain.layers import outputs_of
from atrous.explain.panels import show
from atrous.explain.photo import prepare
from atrous.inference import Predictor
from atrous.layers import SpatialPyramidPooling
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (4, 2, 1)
SIZE = (13, 13)  # SPP-net's map


@dataclass(frozen=True)
class Pyramid:
    """The bins of each level on a map.

    Attributes:
        values: h×w, the map that is pooled.
        levels: n of each.
        bins: a bin a row, level after level, row after row: its first row, first column, last row, last column.
        pooled: the largest value in each bin.
        picture: the photo that the map is of; None of no photo.
    """

    values: NDArray[np.float32]
    levels: tuple[int, ...]
    bins: NDArray[np.int64]
    pooled: NDArray[np.float32]
    picture: NDArray[np.uint8] | None = None

    def of_level(self, level: int) -> slice:
        """Where the bins of a level stand, by its place in `levels`."""
        counts = [n * n for n in self.levels]
        return slice(sum(counts[:level]), sum(counts[: level + 1]))

    def numbers(self) -> dict[str, Any]:
        return {
            "map": list(self.values.shape),
            "levels": list(self.levels),
            "bins": len(self.bins),
            "first_row_column_last_row_column": self.bins.tolist(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"values": self.values, "bins": self.bins, "pooled": self.pooled}

    def plot(self) -> "Figure":
        """The map with each level's bins, a dot on the position that each takes; beneath, what is left of the map."""
        from matplotlib.patches import Rectangle

        height, width = self.values.shape
        with_photo = self.picture is not None
        columns = len(self.levels) + with_photo
        figure = plots.figure(2.7 * columns, 5.4 * min(max(height / width, 0.5), 1.5) + 0.8)
        panels = figure.subplots(2, columns, squeeze=False)
        limits = {"vmin": float(self.values.min()), "vmax": float(self.values.max())}
        if self.picture is not None:
            show(panels[0, 0], self.picture, "the photo")
            show(panels[1, 0], self.values, f"its features, {height}×{width}", **limits)
        for level, n in enumerate(self.levels):
            upper, lower = panels[:, level + with_photo]
            show(upper, self.values, f"{n}×{n} bin{'s' if n > 1 else ''}", **limits)
            for index, (top, left, bottom, right) in enumerate(self.bins[self.of_level(level)]):
                inset = 0.06 + 0.1 * ((index // n + index % n) % 2)  # neighbours that share a row stay apart
                corner, size = (left - 0.5 + inset, top - 0.5 + inset), (right - left + 1, bottom - top + 1)
                sides = (size[0] - 2 * inset, size[1] - 2 * inset)
                colour = ("white", plots.COLOURS[4])[(index // n + index % n) % 2]
                upper.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, linewidth=1.3))
                inside = self.values[top : bottom + 1, left : right + 1]
                row, column = np.unravel_index(int(inside.argmax()), inside.shape)
                upper.plot(
                    left + column,
                    top + row,
                    "o",
                    color=plots.COLOURS[1],
                    markersize=4,
                    markeredgecolor="white",
                    markeredgewidth=0.5,
                )
            pooled = self.pooled[self.of_level(level)].reshape(n, n)
            show(lower, pooled, f"{n * n} value{'s' if n > 1 else ''}", **limits)
        return figure


def spp_bins(
    values: NDArray[np.float32] | None = None,
    levels: Sequence[int] = LEVELS,
    picture: NDArray[np.uint8] | None = None,
) -> Pyramid:
    """Asks the layer itself which positions each of its bins covers.

    Args:
        values: the h×w map to pool; a smooth random one of SPP-net's 13×13 if not given.
        levels: n of each level.
        picture: the photo that the map is of, to be shown beside it.

    Raises:
        AtrousError: levels that are none, or a map without positions.
    """
    values = _blobs() if values is None else values
    if values.ndim != 2 or values.size == 0:
        raise AtrousError(f"values must be one map, h×w, not of shape {values.shape}")
    spp = SpatialPyramidPooling(levels)
    rows, columns = np.indices(values.shape)
    # The largest row of a bin is its last, the largest of the negated rows its first.
    maps = np.stack([-rows, -columns, rows, columns, values]).astype(np.float64)
    pooled = spp(torch.from_numpy(maps)[:, None]).numpy()
    bins = (np.array([-1, -1, 1, 1])[:, None] * pooled[:4]).T.astype(np.int64)
    return Pyramid(values, spp.levels, bins, pooled[4].astype(np.float32), picture)


def spp_of_photo(predictor: Predictor, photo: ImageSource, levels: Sequence[int] = LEVELS) -> Pyramid:
    """The same on a photo: the map is how strongly the model's backbone responds, the root mean square of its channels.

    Raises:
        AtrousError: levels that are none, or a photo that cannot be read.
    """
    seen = prepare(predictor, photo)
    with torch.inference_mode():
        features = outputs_of(predictor.model, seen.tensor, ["backbone"])["backbone"]
    strength: NDArray[np.float32] = features[0].square().mean(0).sqrt().numpy(force=True)
    return spp_bins(strength, levels, seen.picture)


def _blobs() -> NDArray[np.float32]:
    coarse = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")
    blobs: NDArray[np.float32] = smooth[0, 0].clamp(min=0).numpy()
    return blobs
