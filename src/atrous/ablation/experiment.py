"""What an experiment is: a table of a paper, as changes to a recipe and to how the result is judged."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from atrous.models import list_models


@dataclass(frozen=True)
class Times:
    """A value that depends on the recipe's own, so that a table made for crops of 513 can be run with smaller ones.

    A number is multiplied and rounded; a crop k·16 + 1 becomes the nearest one of that form.
    """

    factor: float

    def of(self, value: Any) -> Any:
        if isinstance(value, Sequence):
            return [16 * max(round((side - 1) * self.factor / 16), 2) + 1 for side in value]
        return max(round(value * self.factor), 1)


@dataclass(frozen=True)
class Judgement:
    """How a trained model is judged.

    Attributes:
        output_stride: None keeps the one it was trained at.
        scales: as factors of the recipe's `val_scale`.
        crf: a name or a file as for `atrous eval --crf`.
    """

    output_stride: int | None = None
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crf: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        name: unique within its group.
        group: rows of one group are compared with one another; its first row is what the others are compared with.
        changes: of the recipe, at dotted keys; rows with equal changes share one training.
        paper: the paper's mIoU in percent, by backbone.
    """

    name: str
    group: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    judgement: Judgement = Judgement()
    paper: Mapping[str, float] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The row's name as part of a file's name."""
        words = re.findall(r"[a-z0-9.]+", f"{self.group} {self.name}".lower())
        return "-".join(words)


@dataclass(frozen=True)
class Experiment:
    """A table of a paper.

    Attributes:
        name: what `atrous ablate` calls it.
        question: what it finds out, in a line.
        source: the paper and the table.
        setting: what the paper's numbers were measured with, where it is not what `source` makes one think.
        families: patterns of architectures, e.g. "deeplabv3_{}"; the first that there is for a backbone is taken.
        backbone: the paper's.
        recipe: changes to `Recipe`'s defaults, which are v3's, that make the paper's own recipe.
        changes: of any recipe, in every row.
        implied: options that mean nothing to a backbone that does not take them, at these values.
    """

    name: str
    question: str
    source: str
    families: tuple[str, ...]
    rows: tuple[Row, ...]
    backbone: str = "resnet101"
    setting: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    implied: Mapping[str, Any] = field(default_factory=dict)

    def architecture(self, backbone: str) -> str | None:
        """The architecture on that backbone that shows the idea; None where none does."""
        known = list_models()
        return next((name for family in self.families if (name := family.format(backbone)) in known), None)

    def paper(self, row: Row, backbone: str) -> float | None:
        """The paper's number for a row: on this backbone, or else on the paper's."""
        return row.paper.get(backbone, row.paper.get(self.backbone))
