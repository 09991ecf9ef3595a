"""How a network rounds its numbers to 8 bits: as it was trained to, or as photos showed that it can."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

INPUT = ""  # stands for the network's input among the names of its modules

Steps = Mapping[str, tuple[float, int]]


@dataclass(frozen=True)
class Quantisation:
    """The steps of activations and weights (Jacob et al., arXiv 1712.05877, section 2.1).

    Attributes:
        activations: by the name of the module whose result is rounded: its step and its zero point, the whole number
            in 0..255 that stands for 0.
        weights: by the name of a convolution: one step, or one for each of its output channels.
        inputs: as `activations`, by the name of the module whose input is rounded: for what no module gives.
    """

    activations: Steps
    weights: Mapping[str, tuple[float, ...]]
    inputs: Steps = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them."""
        values = {"activations": dict(self.activations), "weights": dict(self.weights)}
        return values | ({"inputs": dict(self.inputs)} if self.inputs else {})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Quantisation":
        weights = {name: tuple(float(step) for step in steps) for name, steps in values["weights"].items()}
        return cls(_steps(values["activations"]), weights, _steps(values.get("inputs", {})))


def _steps(values: Mapping[str, Any]) -> Steps:
    return {name: (float(step), int(zero)) for name, (step, zero) in values.items()}
