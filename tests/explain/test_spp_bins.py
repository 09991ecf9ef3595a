"""The bins of spatial pyramid pooling: SPP-net's rule, and what they hold."""

from math import ceil, floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.explain import prepare, spp_bins, spp_of_photo


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_bins_are_from_the_floor_to_the_ceiling(height: int, width: int, levels: list[int]) -> None:
    values = np.random.default_rng(0).random((height, width), dtype=np.float32)
    found = spp_bins(values, levels)
    expected = [
        (floor(i * height / n), floor(j * width / n), ceil((i + 1) * height / n) - 1, ceil((j + 1) * width / n) - 1)
        for n in levels
        for i in range(n)
        for j in range(n)
    ]
    assert [tuple(row) for row in found.bins.tolist()] == expected
    largest = [values[top : bottom + 1, left : right + 1].max() for top, left, bottom, right in expected]
    assert found.pooled.tolist() == pytest.approx(largest)


def test_on_a_photo_the_map_is_the_backbones(small, photo) -> None:
    found = spp_of_photo(small, photo, (3, 1))
    with torch.inference_mode():
        features = small.model.backbone(prepare(small, photo).tensor).output[0]
    assert found.values == pytest.approx(features.square().mean(0).sqrt().numpy())
    assert found.pooled[-1] == found.values.max() > 0
    assert (found.picture == photo).all()
