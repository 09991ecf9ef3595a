"""A network that rounds its numbers to 8 bits where its card says so, written in floats.

Runtimes that compute with 8-bit integers recognise the roundings in a graph of it, and torch can run it too.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from atrous.errors import AtrousError
from atrous.inference.engines.folding import folded
from atrous.layers import ImagePooling
from atrous.models import SegmentationModel
from atrous.weights.quantisation import INPUT, Quantisation

_LARGEST = 127  # of a weight in steps: integer products want them signed, and 0 to be 0


def quantised(model: SegmentationModel, quantisation: Quantisation) -> SegmentationModel:
    """A copy with folded batch norm whose results and weights are rounded as `quantisation` says.

    Raises:
        AtrousError: steps of a module that the model does not have.
    """
    return rounded(folded(model), quantisation)


def rounded(twin: SegmentationModel, quantisation: Quantisation) -> SegmentationModel:
    """Has a model without batch norm round its results and weights, in place, and returns it."""
    refuse_unknown(quantisation, twin)
    modules = dict(twin.named_modules())
    for name, (step, zero_point) in quantisation.activations.items():
        rounding = _rounding(step, zero_point)
        if name == INPUT:
            _round_input(twin.backbone, rounding)
        else:
            modules[name].register_forward_hook(lambda _, inputs, result, rounding=rounding: _first(rounding, result))
    for name, (step, zero_point) in quantisation.inputs.items():
        _round_input(modules[name], _rounding(step, zero_point))
    for name, steps in quantisation.weights.items():
        conv = modules[name]
        assert isinstance(conv, nn.Conv2d)
        parametrize.register_parametrization(conv, "weight", RoundedWeight(conv.weight, conv.weight.new_tensor(steps)))
    shift_biases(twin, quantisation.shifts)
    for module in modules.values():
        if isinstance(module, ImagePooling):
            module.register_forward_hook(_spread)
    return twin


def shift_biases(twin: SegmentationModel, shifts: Mapping[str, Sequence[float]]) -> None:
    """Adds to the biases of convolutions, in place, by their names."""
    for name, shift in shifts.items():
        conv = twin.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        added = conv.weight.new_tensor(shift)
        bias = added if conv.bias is None else conv.bias + added
        conv.bias = nn.Parameter(bias, requires_grad=False)


def refuse_unknown(quantisation: Quantisation, model: SegmentationModel) -> None:
    """Raises an AtrousError where there are steps of a module that the model does not have."""
    each_kind = quantisation.activations, quantisation.inputs, quantisation.weights, quantisation.shifts
    named = {name for kind in each_kind for name in kind}
    unknown = named - {name for name, _ in model.named_modules()}
    if unknown:
        raise AtrousError(f"the model's card has a quantisation of {min(unknown)}, which the model does not have")


def to_steps(x: Tensor, step: float, zero_point: int) -> Tensor:
    """The uint8 steps to which numbers are rounded, as torch's `fake_quantize_per_tensor_affine` does it."""
    return x.mul(1 / step).round_().add_(zero_point).clamp_(0, 255).to(torch.uint8)


def from_steps(steps: Tensor, step: float, zero_point: int) -> Tensor:
    """The float32 numbers that they stand for."""
    return steps.float().sub_(zero_point).mul_(step)


class RoundedWeight(nn.Module):
    """A kernel in whole steps. An output channel with weights beyond 127 of its steps gets larger ones."""

    steps: Tensor
    zero_points: Tensor

    def __init__(self, weight: Tensor, steps: Tensor) -> None:
        super().__init__()
        largest = weight.detach().abs().amax((1, 2, 3))
        beyond = (largest / steps).round() > _LARGEST
        self.register_buffer("steps", torch.where(beyond, largest / _LARGEST, steps.expand_as(largest)))
        self.register_buffer("zero_points", torch.zeros(len(largest), dtype=torch.int32))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.fake_quantize_per_channel_affine(weight, self.steps, self.zero_points, 0, -128, 127)


def _rounding(step: float, zero_point: int) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.fake_quantize_per_tensor_affine(x, step, zero_point, 0, 255)


def _round_input(module: nn.Module, rounding: Callable[[Tensor], Tensor]) -> None:
    module.register_forward_pre_hook(lambda _, inputs: (rounding(inputs[0]),))


def _first(rounding: Callable[[Tensor], Tensor], result: Any) -> Any:
    """A module's result, or the first of its results, rounded."""
    return (rounding(result[0]), *result[1:]) if isinstance(result, tuple) else rounding(result)


def _spread(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
    """The same numbers by adding zeros: OpenVINO 2026.4 gives others when 8-bit values are expanded to an open size."""
    return result + torch.zeros_like(inputs[0][:, :1])
