"""What comes of another project's file."""

from dataclasses import dataclass

from atrous.models import SegmentationModel
from atrous.weights.card import ModelCard


@dataclass(frozen=True)
class Converted:
    """A network with another project's weights.

    Attributes:
        model: in float32, in eval mode, on the CPU.
        card: what the file says of classes and normalisation, or what its project always does.
        found: what was recognised, in one line.
    """

    model: SegmentationModel
    card: ModelCard
    found: str
