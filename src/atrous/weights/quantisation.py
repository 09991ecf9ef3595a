"""How a network that was trained with fake quantisation rounds its numbers to 8 bits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INPUT = ""  # stands for the network's input among the names of its modules


@dataclass(frozen=True)
class Quantisation:
    """The steps of activations and weights (Jacob et al., arXiv 1712.05877, section 2.1).

    Attributes:
        activations: by the name of the module whose result is rounded: its step and its zero point, the whole number
            in 0..255 that stands for 0.
        weights: by the name of a convolution: one step, or one for each of its output channels.
    """

    activations: Mapping[str, tuple[float, int]]
    weights: Mapping[str, tuple[float, ...]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them."""
        return {"activations": dict(self.activations), "weights": dict(self.weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Quantisation":
        activations = {name: (float(step), int(zero)) for name, (step, zero) in values["activations"].items()}
        weights = {name: tuple(float(step) for step in steps) for name, steps in values["weights"].items()}
        return cls(activations, weights)
