"""Gridding: which input pixels reach one output through a stack of atrous convolutions, and which fall through.

With one rate throughout, only every r-th pixel does. Wang et al. (arXiv 1702.08502, section 3.2, "hybrid dilated
convolution", HDC) choose rates that fill the holes: they share no factor, and the largest distance M₂ that the later
layers leave between two taps is no more than the first kernel, of rate 1, can bridge.
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

# One rate; HDC's own; one that is too far from the next; v3's block 4 at output stride 16.
STACKS = ((2, 2, 2), (1, 2, 3), (1, 2, 9), (2, 4, 8))
_MOST_REACH = 2048


@dataclass(frozen=True)
class Stack:
    """What one output of a stack sees.

    Attributes:
        rates: from the first layer to the last.
        kernel_size: k of every layer.
        paths: side×side: on how many ways each input pixel reaches the output; 0 is a hole.
        bridged: M₂ of HDC's rule, in pixels.
    """

    rates: tuple[int, ...]
    kernel_size: int
    paths: NDArray[np.float64]
    bridged: int

    @property
    def side(self) -> int:
        """Of the square from the first pixel that is reached to the last."""
        return len(self.paths)

    @property
    def reached(self) -> float:
        """The share of that square's pixels that are reached."""
        return float(np.count_nonzero(self.paths)) / self.paths.size

    @property
    def step(self) -> int:
        """The largest distance between two neighbouring pixels that are reached, along a row; 1 is no hole."""
        reached = np.flatnonzero(self.paths[self.side // 2])
        return int(np.diff(reached).max(initial=0))


@dataclass(frozen=True)
class Gridding:
    """Stacks of atrous convolutions, to be compared."""

    stacks: tuple[Stack, ...]

    def numbers(self) -> dict[str, Any]:
        return {
            "stacks": [
                {
                    "rates": list(stack.rates),
                    "kernel_size": stack.kernel_size,
                    "side": stack.side,
                    "reached": stack.reached,
                    "largest_step": stack.step,
                    "hdc_distance": stack.bridged,
                }
                for stack in self.stacks
            ]
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {f"paths_{'_'.join(map(str, stack.rates))}": stack.paths for stack in self.stacks}

    def plot(self) -> "Figure":
        """Each stack's pixels by the number of their ways to the output; holes are white."""
        from matplotlib.patches import Rectangle

        figure = plots.figure(2.9 * max(len(self.stacks), 2) + 0.8, 3.4)
        panels = figure.subplots(1, len(self.stacks), squeeze=False)[0]
        for panel, stack in zip(panels, self.stacks, strict=True):
            ways = np.ma.masked_equal(stack.paths / stack.paths.max(), 0)
            title = f"rates {', '.join(map(str, stack.rates))}: {stack.reached:.0%} of {stack.side}×{stack.side} pixels"
            drawn = show(panel, ways, title, vmin=0, vmax=1)
            panel.add_patch(Rectangle((0, 0), 1, 1, transform=panel.transAxes, fill=False, alpha=0.4))
        figure.colorbar(drawn, ax=list(panels), shrink=0.8, label="ways to the output, of the most")
        return figure


def gridding(stacks: Sequence[Sequence[int]] = STACKS, kernel_size: int = 3) -> Gridding:
    """Sends one output's gradient back through real atrous convolutions of ones, for each stack of rates.

    Args:
        stacks: the rates of each, from the first layer to the last.
        kernel_size: odd.

    Raises:
        AtrousError: an even kernel, a rate below 1, or a stack that reaches further than 2048 pixels.
    """
    if not stacks:
        raise AtrousError("no stack of rates: give at least one, e.g. 1,2,3")
    return Gridding(tuple(_stack(tuple(rates), kernel_size) for rates in stacks))


def _stack(rates: tuple[int, ...], kernel_size: int) -> Stack:
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise AtrousError(f"kernel_size={kernel_size}: give an odd one from 3 up")
    if not rates or min(rates) < 1:
        raise AtrousError(f"rates {rates}: give whole numbers from 1 up, e.g. 1,2,3")
    reach = sum(rates) * (kernel_size - 1) // 2
    if reach > _MOST_REACH:
        raise AtrousError(f"rates {rates} reach {reach} pixels to each side: {_MOST_REACH} are enough to see it")
    layers = torch.nn.Sequential(*(AtrousConv2d(1, 1, kernel_size, rate=rate) for rate in rates)).double()
    for weight in layers.parameters():
        torch.nn.init.ones_(weight)
    pixels = torch.zeros(1, 1, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64, requires_grad=True)
    (paths,) = torch.autograd.grad(layers(pixels)[0, 0, reach, reach], pixels)
    return Stack(rates, kernel_size, paths[0, 0].numpy(), hdc_distance(rates))


def hdc_distance(rates: Sequence[int]) -> int:
    """M₂ of Wang et al., section 3.2: the largest distance between taps that all layers but the first leave.

    M of the last layer is its rate; before it, Mᵢ = max(Mᵢ₊₁ - 2rᵢ, 2rᵢ - Mᵢ₊₁, rᵢ). Of a single layer, its rate.
    """
    distance = rates[-1]
    for rate in reversed(rates[1:-1]):
        distance = max(distance - 2 * rate, 2 * rate - distance, rate)
    return distance
