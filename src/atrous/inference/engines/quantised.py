"""A network that rounds its numbers to 8 bits where its card says so, written in floats.

Runtimes that compute with 8-bit integers recognise the roundings in a graph of it, and torch can run it too.
"""

from collections.abc import Callable
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
    twin = folded(model)
    modules = dict(twin.named_modules())
    named = quantisation.activations.keys() | quantisation.inputs.keys() | quantisation.weights.keys()
    unknown = named - modules.keys()
    if unknown:
        raise AtrousError(f"the model's card has a quantisation of {min(unknown)}, which the model does not have")
    for name, (step, zero_point) in quantisation.activations.items():
        rounded = _rounding(step, zero_point)
        if name == INPUT:
            _round_input(twin.backbone, rounded)
        else:
            modules[name].register_forward_hook(lambda _, inputs, result, rounded=rounded: _first(rounded, result))
    for name, (step, zero_point) in quantisation.inputs.items():
        _round_input(modules[name], _rounding(step, zero_point))
    for name, steps in quantisation.weights.items():
        conv = modules[name]
        assert isinstance(conv, nn.Conv2d)
        parametrize.register_parametrization(conv, "weight", _RoundedWeight(conv.weight, torch.tensor(steps)))
    for module in modules.values():
        if isinstance(module, ImagePooling):
            module.register_forward_hook(_spread)
    return twin


class _RoundedWeight(nn.Module):
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


def _round_input(module: nn.Module, rounded: Callable[[Tensor], Tensor]) -> None:
    module.register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0]),))


def _first(rounded: Callable[[Tensor], Tensor], result: Any) -> Any:
    """A module's result, or the first of its results, rounded."""
    return (rounded(result[0]), *result[1:]) if isinstance(result, tuple) else rounded(result)


def _spread(_: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
    """The same numbers by adding zeros: OpenVINO 2026.4 gives others when 8-bit values are expanded to an open size."""
    return result + torch.zeros_like(inputs[0][:, :1])
