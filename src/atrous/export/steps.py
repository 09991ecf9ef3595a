"""The steps by which a network that was not trained for 8 bits is rounded: those that fit photos best."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrous.export.places import Places, places
from atrous.inference import Predictor
from atrous.inference.engines.folding import folded
from atrous.inference.engines.quantised import RoundedWeight
from atrous.models import SegmentationModel
from atrous.weights import ModelCard
from atrous.weights.quantisation import INPUT, Quantisation

_LARGEST = 127  # of a weight in steps
_BINS = 8192
_SAMPLES = 50_000  # values of a tensor that are counted: its extremes are those of all
_SHARES = torch.linspace(0.1, 1, 91)  # of a range, that are tried


def find_steps(model: SegmentationModel, show: Callable[[SegmentationModel], None]) -> Quantisation:
    """Steps for each tensor that goes into a convolution, and for each output channel of each convolution.

    An activation's range is the one that rounds what was seen with the least squared error, the values cut off at its
    ends counted in. A weight's largest is 127 steps. What the weights' rounding adds to a channel on average, by the
    means of what was seen, is taken off again.

    Args:
        show: runs a model on the photos: it is given one like `model`, with its batch norm folded.
    """
    twin = folded(model)
    where = places(twin)
    seen = _watch(twin, where)
    means = _means(twin)
    show(twin)
    return Quantisation(
        {name: _step(name, seen[True, name]) for name in where.results},
        {name: _weight_steps(mean.conv.weight) for name, mean in means.items()},
        {name: seen[False, name].step() for name in where.inputs},
        {name: mean.shift() for name, mean in means.items()},
    )


def find_shifts(model: SegmentationModel, show: Callable[[SegmentationModel], None]) -> Mapping[str, tuple[float, ...]]:
    """The shifts of `find_steps` alone, for whoever finds the ranges in another way."""
    twin = folded(model)
    means = _means(twin)
    show(twin)
    return {name: mean.shift() for name, mean in means.items()}


def showing(
    photos: Iterable[NDArray[np.uint8]], card: ModelCard, advance: Callable[[], None] = lambda: None
) -> Callable[[SegmentationModel], None]:
    """For `find_steps`: predicts the photos in float; `advance` is called after each."""

    def show(twin: SegmentationModel) -> None:
        shown = Predictor(twin, replace(card, quantisation=None), "cpu")
        for photo in photos:
            shown(photo)
            advance()

    return show


class Values:
    """How often which values occurred in the tensors that were added; in bins, and without the zeros, which are exact.

    The bins reach as far as a power of two to both sides of zero, which grows with what comes.

    Attributes:
        least, largest: zero among them.
    """

    def __init__(self) -> None:
        self._reach = 2.0**-10
        self._counts = torch.zeros(_BINS, dtype=torch.float64)
        self.least = self.largest = 0.0

    def add(self, x: Tensor) -> None:
        least, largest = (float(extreme) for extreme in x.aminmax())
        self.least, self.largest = min(self.least, least), max(self.largest, largest)
        while self._reach < max(-least, largest):
            self._reach *= 2
            self._counts = nn.functional.pad(self._counts.view(-1, 2).sum(1), (_BINS // 4, _BINS // 4))
        values = x.detach().float().flatten()
        values = values[:: -(-values.numel() // _SAMPLES) | 1]  # odd, lest it meet the same channels only
        self._counts += torch.histc(values[values != 0], _BINS, -self._reach, self._reach)

    def step(self) -> tuple[float, int]:
        """The step and the zero point of the range that rounds them best: its upper end is sought first."""
        least, largest = self.least * torch.ones(1), self.largest * _SHARES
        largest = largest[self._errors(least, largest).argmin()]
        least = self.least * _SHARES
        least = least[self._errors(least, largest[None]).argmin()]
        return affine(float(least), float(largest))

    def _errors(self, least: Tensor, largest: Tensor) -> Tensor:
        """The squared error of each of several ranges, where one of the two ends may be a single one."""
        centres = (torch.arange(_BINS) + 0.5 - _BINS / 2) * (2 * self._reach / _BINS)
        beyond = (centres - centres.clamp(least[:, None], largest[:, None])).square()
        rounding = ((largest - least) / 255).square()[:, None] / 12
        return (torch.where(beyond > 0, beyond, rounding) * self._counts).sum(1)


def affine(least: float, largest: float) -> tuple[float, int]:
    """The step and the zero point with which 0..255 stand for that range, which holds 0."""
    step = (largest - least) / 255 or 1.0
    return step, round(-least / step)


def _step(name: str, values: Values) -> tuple[float, int]:
    # A photo's own values have 256 steps already.
    return affine(values.least, values.largest) if name == INPUT else values.step()


def _weight_steps(weight: Tensor) -> tuple[float, ...]:
    largest = weight.abs().amax((1, 2, 3)) / _LARGEST
    return _in_digits(torch.where(largest > 0, largest, 1.0), 9)  # by which float32 is known to the bit


class _Mean:
    """The mean of each of a convolution's input channels, over all that comes."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        self._sum, self._calls = torch.zeros(conv.in_channels, dtype=torch.float64), 0
        conv.register_forward_pre_hook(lambda _, inputs: self._add(inputs[0]))

    def _add(self, x: Tensor) -> None:
        self._sum += x.detach().mean((0, 2, 3))
        self._calls += 1

    def shift(self) -> tuple[float, ...]:
        """What makes up for rounding the convolution's weights, as if its input were the means everywhere."""
        weight = self.conv.weight.detach()
        rounded = RoundedWeight(weight, torch.tensor(_weight_steps(weight)))(weight)
        errors = (rounded - weight).double().sum((2, 3)).view(self.conv.groups, -1, weight.shape[1])
        means = self._sum / max(1, self._calls)
        return _in_digits(-(errors @ means.view(self.conv.groups, -1, 1)).flatten(), 6)


def _means(twin: SegmentationModel) -> dict[str, _Mean]:
    """Of every convolution by its name, as the model runs."""
    return {name: _Mean(module) for name, module in twin.named_modules() if isinstance(module, nn.Conv2d)}


def _in_digits(values: Tensor, digits: int) -> tuple[float, ...]:
    return tuple(float(f"{each:.{digits}g}") for each in values.tolist())


def _watch(model: SegmentationModel, where: Places) -> dict[tuple[bool, str], Values]:
    """The values at each of the places, which come as the model runs: results' under True, inputs' under False."""
    seen = {(True, name): Values() for name in where.results} | {(False, name): Values() for name in where.inputs}
    modules = dict(model.named_modules())
    for (is_result, name), values in seen.items():
        if name == INPUT or not is_result:
            module = model.backbone if name == INPUT else modules[name]
            module.register_forward_pre_hook(lambda _, inputs, values=values: values.add(inputs[0]))
        else:
            modules[name].register_forward_hook(partial(_add_result, values))
    return seen


def _add_result(values: Values, _: nn.Module, inputs: Any, result: Any) -> None:
    values.add(result[0] if isinstance(result, tuple) else result)
