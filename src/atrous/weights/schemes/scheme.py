"""What a scheme is: how a project names and orders the tensors of a network that exists here too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from torch import Tensor, nn

from atrous.weights.card import IMAGENET

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Found:
    """What a scheme sees in a project's tensors.

    Attributes:
        architecture: `create_model`'s name for it; for a classifier's weights the backbone's name.
        options: `create_model`'s keyword arguments, as far as names and shapes tell them, else the project's defaults
            (num_classes, output_stride, multi_scale among them); for a backbone its own options.
        description: the network in the project's words, e.g. "deeplabv3_resnet50 with the auxiliary head".
        unused: beginnings of the names that the network here has no use for (a classifier's last layer).
        mean, std: how the project normalises RGB in 0..1.
        backbone: a classifier, of which the backbone alone is used.
        renamed: beginnings of names as an older release had them, to those that the scheme's layout gives.
    """

    architecture: str
    options: Mapping[str, Any]
    description: str
    unused: tuple[str, ...] = ()
    mean: tuple[float, float, float] = IMAGENET[0]
    std: tuple[float, float, float] = IMAGENET[1]
    backbone: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a network here lie in the project's.

    Attributes:
        name: from a name here to the project's.
        input_order: for a convolution here (its weight's name) the project's input channel that each of ours is:
            `theirs[:, order]` is ours, of a depthwise one `theirs[order]`. Where concatenations have another order,
            or the input is BGR.
        copies: the project's further names for a tensor, each with the one that `name` gives.
    """

    name: Callable[[str], str]
    input_order: Mapping[str, Sequence[int]] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scheme:
    """A project.

    Attributes:
        project: its name, as it calls itself.
        recognise: what the tensors are, by names and shapes alone; None if they are not this project's. Raises a
            WeightsError for what is this project's and cannot be carried over faithfully, with the reason.
        layout: where the tensors of a model, or of a backbone for classifiers, lie there; None if the project has no
            such network. It is one that `recognise` named, or one of the user's for the way back.
        prefix: what a file of a network lacks of the layout's names.
        chosen: the options of `create_model` that its users choose beside the tensors.
    """

    project: str
    recognise: Callable[[State], Found | None]
    layout: Callable[[nn.Module], Layout | None]
    prefix: Callable[[nn.Module], str] = lambda _: ""
    chosen: tuple[str, ...] = ("output_stride",)

    @property
    def whose(self) -> str:
        """The project's name as a possessive."""
        return f"{self.project}'" if self.project.endswith("s") else f"{self.project}'s"


def by_prefix(table: Mapping[str, str]) -> Callable[[str], str]:
    """A `Layout.name` from beginnings of names, whole up to a dot: the longest that fits is exchanged, the rest stays.

    `by_prefix({"logits": "classifier.4"})("logits.bias")` is "classifier.4.bias". The key "" fits every name.
    """

    def rename(name: str) -> str:
        head = name
        while head and head not in table:
            head = head.rpartition(".")[0]
        if head not in table:
            return name
        rest = name[len(head) :].lstrip(".")
        return ".".join(part for part in (table[head], rest) if part)

    return rename


def order_of(sizes: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """`Layout.input_order` of a concatenation: our parts have `sizes`; the project's has our part `theirs[0]` first.

    A pooled map first and the others behind it as here: `order_of([256] * 5, [4, 0, 1, 2, 3])`.
    """
    starts_there = dict(zip(theirs, accumulate([0, *(sizes[part] for part in theirs)]), strict=False))
    return [starts_there[part] + channel for part, size in enumerate(sizes) for channel in range(size)]
