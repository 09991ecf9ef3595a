"""What a saved model says of itself beside its weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `config.json` holds them."""
        values = asdict(replace(self, quantisation=None))
        del values["quantisation"]
        return values | ({"quantisation": self.quantisation.to_dict()} if self.quantisation else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelCard":
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
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
