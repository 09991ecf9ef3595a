"""From strides to rates: the one place where an output stride becomes atrous convolution.

v3, section 3.1: once the map has reached the wanted output stride, every further stride is taken out, and the
convolutions after it get their rate multiplied by it, so that they see the pixels they would have seen.
"""

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple, Protocol

from torch import Tensor

from atrous.errors import AtrousError


class Features(NamedTuple):
    """What a backbone gives: the map at stride 4 that the v3+ decoder takes, and the last one.

    `middle_level` is the one at stride 8 that a decoder of two steps takes as well (v3+, table 2, "Conv3"), `auxiliary`
    what torchvision's auxiliary head takes, and `fine_level` the one at stride 2 for a decoder's last step, each of the
    backbones that have them.
    """

    low_level: Tensor
    output: Tensor
    middle_level: Tensor | None = None
    auxiliary: Tensor | None = None
    fine_level: Tensor | None = None


class Step(NamedTuple):
    """What one unit of a backbone does at a given output stride."""

    stride: int
    """The stride that is left: the unit's own, or 1 once the output stride is reached."""
    rate_before: int
    """The rate of the unit's convolutions up to and including the one that held the stride."""
    rate_after: int
    """The rate of the convolutions behind it."""


class Unit(Protocol):
    """A part of a backbone that may hold a stride."""

    nominal_stride: int

    def apply_step(self, step: Step) -> None: ...


def plan_strides(strides: Sequence[int], output_stride: int, stem_stride: int) -> list[Step]:
    """The step of each unit, given their nominal strides, so that the whole reaches `output_stride`.

    Args:
        stem_stride: the stride of what stands before the first unit, which is never taken out.
    """
    steps, current, rate = [], stem_stride, 1
    for stride in strides:
        before = rate
        if current < output_stride:
            current *= stride
            steps.append(Step(stride, before, rate))
        else:
            rate *= stride
            steps.append(Step(1, before, rate))
    return steps


def apply_output_stride(units: Iterable[Unit], output_stride: int, stem_stride: int) -> None:
    """Rewrites strides and rates of `units` in place; the weights stay.

    Raises:
        AtrousError: not 8, 16, 32 or a further power of two up to what the strides come to.
    """
    units = list(units)
    strides = [unit.nominal_stride for unit in units]
    largest = stem_stride * prod(strides)
    possible = [stride for stride in (8, 16, 32, 64, 128, 256) if stride <= largest]
    if output_stride not in possible:
        raise AtrousError(f"output_stride={output_stride!r} is not one of {', '.join(map(str, possible))}")
    steps = plan_strides(strides, output_stride, stem_stride)
    for unit, step in zip(units, steps, strict=True):
        unit.apply_step(step)
