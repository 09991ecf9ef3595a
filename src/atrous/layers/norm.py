"""Batch normalisation that also trains where a batch holds one value a channel."""

import torch.nn.functional as F
from torch import Tensor, nn


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
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
