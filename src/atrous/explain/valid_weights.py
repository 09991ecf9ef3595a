"""How many weights of an atrous kernel meet the map rather than its padding (v3, section 3.3, figure 4).

At rate r the outer taps of a 3×3 kernel lie r positions away. Once r nears the map's size, all but the centre meet
padding everywhere, and the kernel is a 1×1 one: the reason why v3 adds image-level features to ASPP.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.errors import AtrousError
from atrous.explain.panels import show
from atrous.layers import AtrousConv2d
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 4  # maps beneath the curves
_MOST_SIDE = 4096  # positions


@dataclass(frozen=True)
class ValidWeights:
    """Positions of a map by how many weights are valid there.

    Attributes:
        size: (height, width) of the map.
        kernel_size: k of the k×k kernel.
        rates: one a row of `positions`.
        positions: rates × (k² + 1) whole numbers: at how many positions 0, 1, … k² weights are valid.
    """

    size: tuple[int, int]
    kernel_size: int
    rates: tuple[int, ...]
    positions: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """The same as shares of all positions."""
        return self.positions / (self.size[0] * self.size[1])

    @property
    def means(self) -> NDArray[np.float64]:
        """Valid weights of an average position, one a rate."""
        means: NDArray[np.float64] = self.shares @ np.arange(self.positions.shape[1])
        return means

    @property
    def occurring(self) -> list[int]:
        """The numbers of valid weights that there are at any of the rates, the highest first."""
        return [int(count) for count in np.flatnonzero(self.positions.any(0))[::-1]]

    def numbers(self) -> dict[str, Any]:
        shares = {str(count): self.shares[:, count].tolist() for count in self.occurring}
        return {
            "size": list(self.size),
            "kernel_size": self.kernel_size,
            "rates": list(self.rates),
            "share_with": shares,
            "mean": self.means.tolist(),
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"rates": np.array(self.rates), "positions": self.positions, "shares": self.shares, "mean": self.means}

    def plot(self) -> "Figure":
        """The share of each count against the rate (v3's figure 4), and the map itself at a few rates."""
        figure = plots.figure(8, 6.5)
        chosen = sorted({self.rates[round(i * (len(self.rates) - 1) / (_SHOWN - 1))] for i in range(_SHOWN)})
        grid = figure.add_gridspec(2, len(chosen), height_ratios=(1.8, 1))
        axes = figure.add_subplot(grid[0, :])
        for count in self.occurring:
            axes.plot(self.rates, self.shares[:, count], marker=".", markersize=4, label=f"{count}")
        height, width = self.size
        axes.set(xlabel="rate", ylabel="share of positions", ylim=(-0.02, 1.02))
        axes.set_title(f"Valid weights of a {self.kernel_size}×{self.kernel_size} kernel on a {height}×{width} map")
        axes.legend(title="valid weights", loc="center left", bbox_to_anchor=(1, 0.5))
        panels = [figure.add_subplot(grid[1, column]) for column in range(len(chosen))]
        for panel, rate in zip(panels, chosen, strict=True):
            counts = valid_map(self.size, self.kernel_size, rate)
            drawn = show(panel, counts, f"rate {rate}: mean {counts.mean():.2f}", vmin=0, vmax=self.kernel_size**2)
        figure.colorbar(drawn, ax=panels, label="valid weights", ticks=[0, *reversed(self.occurring)], shrink=0.8)
        return figure


def valid_map(size: tuple[int, int], kernel_size: int = 3, rate: int = 1) -> NDArray[np.int64]:
    """At each position of a map, how many weights of a k×k kernel at a rate fall on it rather than on padding.

    It is what `AtrousConv2d` gives for a kernel of ones on a map of ones.

    Raises:
        AtrousError: a size, kernel or rate below 1, or a kernel that cannot be centred.
    """
    if min(*size, kernel_size, rate) < 1:
        raise AtrousError(f"size={size}, kernel_size={kernel_size}, rate={rate}: give whole numbers from 1 up")
    if rate * (kernel_size - 1) % 2:
        raise AtrousError(f"a {kernel_size}×{kernel_size} kernel at rate {rate} has no centre: give an even rate")
    conv = AtrousConv2d(1, 1, kernel_size, rate=rate).double()
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        ones = conv(torch.ones(1, 1, *size, dtype=torch.float64))
    counts: NDArray[np.int64] = ones[0, 0].round().long().numpy()
    return counts


def valid_weights(
    size: int | tuple[int, int] = 65, rates: Sequence[int] = range(1, 66), kernel_size: int = 3
) -> ValidWeights:
    """Counts the valid weights of a k×k kernel at each rate, on a map of a size.

    Args:
        size: the map's side, or (height, width), in positions; 65 is v3's figure 4: a photo of 513 at output stride 8.
        rates: from 1 up.

    Raises:
        AtrousError: a size, kernel or rate below 1, or a kernel that cannot be centred.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if max(height, width) > _MOST_SIDE:
        raise AtrousError(f"size={height}×{width}: maps have sides of up to {_MOST_SIDE} positions here")
    if not rates:
        raise AtrousError("rates is empty: give at least one, e.g. 6,12,18")
    counts = [valid_map((height, width), kernel_size, rate).ravel() for rate in rates]
    positions = np.stack([np.bincount(row, minlength=kernel_size**2 + 1) for row in counts])
    return ValidWeights((height, width), kernel_size, tuple(rates), positions)
