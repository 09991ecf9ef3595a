"""Spatial pyramid pooling (He et al., arXiv 1406.4729, section 2), from which ASPP has its name and its idea."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError


class SpatialPyramidPooling(nn.Module):
    """Max pooling in n×n bins at each level: a vector of fixed length from a map of any size.

    Bin i of n along a side of length a covers the positions from floor(i·a/n) to ceil((i+1)·a/n), so bins share
    a border position where a is no multiple of n, and repeat positions where a is smaller than n: no bin is empty.
    That is SPP-net's rule for a map of any size, and adaptive max pooling's. Its rule for training at one size,
    windows of ceil(a/n) at a stride of floor(a/n), gives the same bins where a mod n is 0 or 1 (as for its 13×13 map
    at 3, 2 and 1) and leaves out the last positions elsewhere.

    Args:
        levels: n of each level; 4×4, 2×2 and 1×1 are 21 bins a channel.
    """

    def __init__(self, levels: Sequence[int] = (4, 2, 1)) -> None:
        super().__init__()
        self.levels = tuple(levels)
        if not self.levels or min(self.levels) < 1:
            raise AtrousError(f"levels={self.levels} must be whole numbers from 1 up, e.g. (4, 2, 1)")

    @property
    def bins(self) -> int:
        """Values a channel."""
        return sum(level * level for level in self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×(C·bins): level after level; within one channel after channel, within that row after row."""
        return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in self.levels], 1)
