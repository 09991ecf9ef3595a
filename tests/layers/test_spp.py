"""Spatial pyramid pooling against its rule, bin by bin."""

from math import ceil, floor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.layers import SpatialPyramidPooling


def bins_by_hand(x, level):
    """Bin (i, j) of n×n is the maximum over rows floor(i·h/n) to ceil((i+1)·h/n), columns likewise."""
    h, w = x.shape[-2:]
    return torch.stack(
        [
            x[
                ...,
                floor(i * h / level) : ceil((i + 1) * h / level),
                floor(j * w / level) : ceil((j + 1) * w / level),
            ].amax((2, 3))
            for i in range(level)
            for j in range(level)
        ],
        2,
    )


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    channels=st.integers(1, 3),
    levels=st.lists(st.integers(1, 6), min_size=1, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_bins_are_the_maxima_of_their_ranges(height, width, channels, levels):
    x = torch.randn(2, channels, height, width)
    layer = SpatialPyramidPooling(levels)
    expected = torch.cat([bins_by_hand(x, level).flatten(1) for level in levels], 1)
    assert expected.shape == (2, channels * layer.bins)
    assert torch.equal(layer(x), expected)


def test_levels_of_4_2_and_1_are_21_bins_that_miss_nothing():
    """Every position is in some bin of each level, on maps smaller than the level too."""
    layer = SpatialPyramidPooling()
    assert layer.bins == 21
    for size in [(1, 1), (2, 3), (4, 4), (10, 10), (13, 13), (11, 29)]:
        for position in range(size[0] * size[1]):
            x = torch.zeros(1, 1, size[0] * size[1])
            x[..., position] = 1
            out = layer(x.reshape(1, 1, *size))[0]
            assert out[:16].max() == out[16:20].max() == out[20] == 1


@pytest.mark.parametrize(("size", "level", "same"), [(13, 3, True), (13, 2, True), (13, 1, True), (10, 4, False)])
def test_the_sliding_window_of_single_size_training(size, level, same):
    """Windows of ceil(a/n) at a stride of floor(a/n) are the same bins for 13×13, but skip the end of 10×10 at 4."""
    x = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size)
    windows = F.max_pool2d(x, ceil(size / level), floor(size / level))[..., :level, :level].flatten(1)
    assert torch.equal(windows, SpatialPyramidPooling((level,))(x)) is same


def test_impossible_levels_are_named():
    with pytest.raises(AtrousError, match=r"levels=\(4, 0\)"):
        SpatialPyramidPooling((4, 0))
    with pytest.raises(AtrousError, match=r"levels=\(\)"):
        SpatialPyramidPooling(())
