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
        shifts: by the name of a convolution: what is added to each of its output channels to make up for what rounded
            weights add to them on average (Nagel et al., arXiv 1906.04721, section 4.2 "Bias correction").
    """

    activations: Steps
    weights: Mapping[str, tuple[float, ...]]
    inputs: Steps = field(default_factory=dict)
    shifts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them."""
        values = {"activations": dict(self.activations), "weights": dict(self.weights)}
        may_lack = {"inputs": dict(self.inputs), "shifts": dict(self.shifts)}
        return values | {name: each for name, each in may_lack.items() if each}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Quantisation":
        """Of `to_dict`'s values; a ValueError tells which steps cannot be."""
        weights, shifts = _floats(values["weights"]), _floats(values.get("shifts", {}))
        return cls(_steps(values["activations"]), weights, _steps(values.get("inputs", {})), shifts)


def _steps(values: Mapping[str, Any]) -> Steps:
    steps = {name: (float(step), int(zero)) for name, (step, zero) in values.items()}
    for name, (step, zero) in steps.items():
        if not (step > 0 and 0 <= zero <= 255):
            raise ValueError(f"quantisation of {name!r} by steps of {step:g} with {zero} for zero")
    return steps


def _floats(values: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(each) for each in of_one) for name, of_one in values.items()}
