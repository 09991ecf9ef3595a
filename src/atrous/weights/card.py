"""What a saved model says of itself beside its weights."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from numbers import Integral, Real
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
        if len(self.classes) != len(self.palette):
            raise WeightsError(f"a model card with {len(self.classes)} classes has {len(self.palette)} palette colours")
        if len(set(self.classes)) != len(self.classes):
            raise WeightsError("a model card names a class twice: give each of its classes its own name")
        if not all(isinstance(name, str) for name in self.classes):
            raise WeightsError(f"classes: {_first_not(self.classes, lambda name: isinstance(name, str))!r} is no name")
        if not all(map(_is_colour, self.palette)):
            wrong = _first_not(self.palette, _is_colour)
            raise WeightsError(f"palette: {wrong!r} is no colour; a colour is three whole numbers from 0 to 255")
        for name, values, least in (("mean", self.mean, -inf), ("std", self.std, 0.0)):
            if len(values) != 3 or not all(_is_number_above(least, value) for value in values):
                above = " above 0" if name == "std" else ""
                raise WeightsError(f"{name}: {values!r} is not three numbers{above}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them."""
        values = asdict(replace(self, quantisation=None))
        del values["quantisation"]
        return values | ({"quantisation": self.quantisation.to_dict()} if self.quantisation else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelCard":
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        if not isinstance(known["classes"], list):
            raise WeightsError(f"classes: {known['classes']!r} is no list of names")
        known["classes"] = tuple(known["classes"])
        known["palette"] = tuple(_triple(colour) for colour in known["palette"])
        for name in ("mean", "std"):
            if name in known:
                known[name] = _triple(known[name])
        if "quantisation" in known:
            known["quantisation"] = Quantisation.from_dict(known["quantisation"])
        return cls(**known)


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def _is_colour(colour: object) -> bool:
    return (
        isinstance(colour, Sequence)
        and len(colour) == 3
        and all(isinstance(value, Integral) and 0 <= int(value) <= 255 for value in colour)
    )


def _is_number_above(least: float, value: object) -> bool:
    return isinstance(value, Real) and least < float(value) < inf


def _first_not(values: Iterable[Any], is_sound: Callable[[Any], bool]) -> Any:
    return next(value for value in values if not is_sound(value))
