"""Batch norm folded into the convolution before it: at prediction both are one linear map."""

import copy

import torch
from torch import Tensor, nn

from atrous.models import SegmentationModel

_TRACED = (1, 3, 65, 65)


def folded(model: SegmentationModel) -> SegmentationModel:
    """A copy on the CPU in float32 that computes the same without its batch norms; folded in float64.

    Which convolution feeds which batch norm is seen on a run, not guessed from names.
    """
    with torch.inference_mode(False), torch.no_grad():
        twin = copy.deepcopy(model).to("cpu", torch.float64).eval()
        for norm, conv in _pairs(twin).items():
            _fold(conv, twin.get_submodule(norm))  # type: ignore[arg-type]
            twin.set_submodule(norm, nn.Identity())
        return twin.float().requires_grad_(False)


def _pairs(model: SegmentationModel) -> dict[str, nn.Conv2d]:
    """Each batch norm's name, with the convolution whose output is its input."""
    made: dict[int, tuple[Tensor, nn.Conv2d]] = {}  # holds the tensors, so that no address is used again
    pairs: dict[str, nn.Conv2d] = {}

    def remember(conv: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = output, conv  # type: ignore[assignment]

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(remember))
        elif isinstance(module, nn.BatchNorm2d):

            def find(_: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                if id(inputs[0]) in made:
                    pairs[name] = made[id(inputs[0])][1]

            hooks.append(module.register_forward_pre_hook(find))
    with torch.autocast("cpu", enabled=False):
        model.coarse_logits(torch.zeros(_TRACED, dtype=torch.float64, device="cpu"))
    for hook in hooks:
        hook.remove()
    return pairs


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # noqa: PT018 (the models' norms all keep statistics)
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    bias = shift if conv.bias is None else conv.bias * scale + shift
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None], requires_grad=False)
    conv.bias = nn.Parameter(bias, requires_grad=False)
