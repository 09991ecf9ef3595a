"""What a saved model says of itself beside its weights."""

from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any

from atrous.errors import WeightsError
from atrous.weights.quantisation import Quantisation

Colour = tuple[int, int, int]

# Mean and deviation of RGB in 0..1. Mobile and Xception backbones take inputs in [-1, 1]; ResNets the other.
SYMMETRIC = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class ModelCard:
    """What the weights do not say: the classes, how an image is to be normalised, where the weights came from.

    Attributes:
        classes: K names, in index order.
        palette: K RGB colours.
        mean, std: of RGB values in 0..1.
        provenance: what it was trained on and how, with scores: {"miou": …, "pixel_accuracy": …, "iou": {…}}.
        quantisation: of a network that was trained or calibrated for 8 bits.
    """

    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    mean: tuple[float, float, float] = SYMMETRIC[0]
    std: tuple[float, float, float] = SYMMETRIC[1]
    licence: str = ""
    description: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    quantisation: Quantisation | None = None

    def __post_init__(self) -> None:
        names: Any = self.classes
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise WeightsError(f"classes: {names!r} is no list of names")
        own = {
            "classes": tuple(names),
            "palette": tuple(map(_colour, self.palette)),
            "mean": _normalisation("mean", self.mean, -inf),
            "std": _normalisation("std", self.std, 0.0),
        }
        for name, values in own.items():
            object.__setattr__(self, name, values)  # whatever they were given as, numpy's arrays or JSON's lists
        if len(self.classes) != len(self.palette):
            raise WeightsError(f"a model card with {len(self.classes)} classes has {len(self.palette)} palette colours")
        if len(set(self.classes)) != len(self.classes):
            raise WeightsError("a model card names a class twice: give each of its classes its own name")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them."""
        values = asdict(replace(self, quantisation=None))
        del values["quantisation"]
        return values | ({"quantisation": self.quantisation.to_dict()} if self.quantisation else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelCard":
        needed = ("classes", "palette")
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values or name in needed}
        if "quantisation" in known:
            known["quantisation"] = Quantisation.from_dict(known["quantisation"])
        return cls(**known)


def _colour(values: Any) -> Colour:
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        red = green = blue = -1.0
    if isinstance(values, str) or not all(value in range(256) for value in (red, green, blue)):
        raise WeightsError(f"palette: {values!r} is no colour; a colour is three whole numbers from 0 to 255")
    return int(red), int(green), int(blue)


def _normalisation(name: str, values: Any, least: float) -> tuple[float, float, float]:
    try:
        first, second, third = (float(value) for value in values)
    except (TypeError, ValueError):
        first = second = third = -inf
    if not all(least < value < inf for value in (first, second, third)):
        above = " above 0" if least == 0 else ""
        raise WeightsError(f"{name}: {values!r} is not three numbers{above}")
    return first, second, third
