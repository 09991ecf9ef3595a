"""Batch normalisation that also trains where a batch holds one value a channel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.ops import UNCLIPPED, Clip, Running, batch_norm, has_batch_norm

_CLIPS = {nn.Identity: UNCLIPPED, nn.ReLU: Clip(0.0), nn.ReLU6: Clip(0.0, 6.0)}


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d`, but one value a channel (N = H = W = 1) is normalised by the running statistics.

    The variance of a single value says nothing, so torch refuses it. It occurs after image pooling with a
    batch of one, and in the last batch of an epoch; the running statistics are then the best estimate there
    is, and they are left as they are.

    Attributes:
        frozen: see `freeze`.
    """

    frozen = False

    def freeze(self) -> None:
        """From now on it normalises by its running statistics and leaves them as they are, after `.train()` too."""
        self.frozen = True
        self.eval()

    def train(self, mode: bool = True) -> "BatchNorm2d":
        return super().train(mode and not self.frozen)

    def forward(self, x: Tensor) -> Tensor:
        if self._has_loop(x):
            return self._normalise(x)
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)

    def _has_loop(self, x: Tensor) -> bool:
        learns = self.training or self.frozen
        kept = self.affine and self.running_mean is not None and self.momentum is not None
        return learns and kept and has_batch_norm(x) and self.weight.dtype == torch.float32

    def _normalise(self, x: Tensor, clip: Clip = UNCLIPPED) -> Tensor:
        mean, variance, count = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None and variance is not None and count is not None  # noqa: PT018 (see _has_loop)
        if self.training:
            count.add_(1)
        running = Running(mean, variance, self.momentum or 0.0)
        return batch_norm(x, self.weight, self.bias, running, self.eps, frozen=not self.training, clip=clip)


def normalise_and_activate(x: Tensor, norm: nn.Module, act: nn.Module) -> Tensor:
    """`act(norm(x))`; in training as one pass over memory where both can be, past the modules' own calls."""
    clip = _CLIPS.get(type(act))
    # Not a subclass: it normalises in a way of its own.
    if clip is not None and type(norm) is BatchNorm2d and norm._has_loop(x):
        return norm._normalise(x, clip)
    out: Tensor = act(norm(x))
    return out
