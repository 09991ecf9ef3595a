"""Batch norm that a file has folded into the convolutions, taken out of them again before training."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from atrous.layers import BatchNorm2d


def unfold_batch_norm(model: nn.Module, images: Iterable[Tensor]) -> int:
    """Makes identities into batch norm with the statistics of these images; what the model computes stays.

    A released TFLite file has batch norm folded into its convolutions, and a model from it identities in its place.
    Trained like that, the first step would normalise what was learnt as it is: each channel loses its size, and the
    features are gone. Here each identity gets the mean and the variance of what comes to it, and takes them out again
    by its weight and bias.

    Args:
        model: in its training form; frozen batch norm stays as it is.
        images: normalised, 3×H×W, some tens of them; where nothing is folded none is taken.

    Returns:
        How many there were.
    """
    folded = [module for module in model.modules() if isinstance(module, BatchNorm2d) and _is_folded(module)]
    if folded:
        training = model.training
        model.eval()
        sums = {norm: _Sums(norm) for norm in folded}
        with torch.inference_mode():
            for image in images:
                model(image[None])
        for norm, seen in sums.items():
            seen.handle.remove()
            _unfold(norm, *seen.moments())
        model.train(training)
    return len(folded)


def _is_folded(norm: BatchNorm2d) -> bool:
    """As the loaders leave it, in half precision too: an identity but for a bias, which one that is new has not."""
    mean, variance = norm.running_mean, norm.running_var
    if norm.frozen or mean is None or variance is None or not norm.affine:
        return False
    plain = not mean.any() and bool((norm.weight == 1).all()) and bool(((variance - 1).abs() < 2e-3).all())
    return plain and bool(norm.bias.any())


class _Sums:
    """Of what a batch norm is given, channel by channel."""

    def __init__(self, norm: BatchNorm2d) -> None:
        self.count = 0
        self.first = torch.zeros(norm.num_features, dtype=torch.float64)
        self.second = torch.zeros(norm.num_features, dtype=torch.float64)
        self.handle: RemovableHandle = norm.register_forward_pre_hook(self._add)

    def _add(self, norm: nn.Module, given: tuple[Any, ...]) -> None:
        x = given[0].double()
        self.count += x.numel() // x.shape[1]
        self.first += x.sum((0, 2, 3))
        self.second += x.square().sum((0, 2, 3))

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.first / self.count
        return mean, (self.second / self.count - mean.square()).clamp_min(0)


@torch.no_grad()
def _unfold(norm: BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.add_(mean.to(norm.bias))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
