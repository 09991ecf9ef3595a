"""The counts of valid weights, against closed forms, a plain count, and the arithmetic of the convolution itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.explain import valid_map, valid_weights
from atrous.ops.valid_taps import valid_share


@pytest.mark.parametrize("side", [33, 65, 129])
def test_a_square_map_has_the_closed_form_at_every_rate(side: int) -> None:
    found = valid_weights(side, range(1, side + 5))
    for rate, shares in zip(found.rates, found.shares, strict=True):
        # Along a side, so many positions have three valid taps, two, and one.
        three = max(side - 2 * rate, 0)
        one = min(max(2 * rate - side, 0), side)
        two = side - three - one
        expected = {9: three * three, 6: 2 * three * two, 4: two * two, 3: 2 * three * one, 2: 2 * two * one, 1: one**2}
        assert {n: shares[n] * side**2 for n in expected} == pytest.approx(expected, abs=1e-6)
        assert shares.sum() == pytest.approx(1)


# Computed for v3's figure 4, a map of 65×65: the shares of 9, 6, 4, 2 and 1 valid weights.
FIGURE_4 = {
    1: (0.939, 0.060, 0.001, 0, 0),
    6: (0.665, 0.301, 0.034, 0, 0),
    12: (0.398, 0.466, 0.136, 0, 0),
    18: (0.199, 0.494, 0.307, 0, 0),
    24: (0.068, 0.386, 0.545, 0, 0),
    32: (0.0002, 0.030, 0.970, 0, 0),
    36: (0, 0, 0.796, 0.192, 0.012),
    48: (0, 0, 0.274, 0.499, 0.228),
    64: (0, 0, 0.001, 0.060, 0.939),
    65: (0, 0, 0, 0, 1),
}


def test_figure_4_of_v3() -> None:
    found = valid_weights(65)
    for rate, expected in FIGURE_4.items():
        assert found.shares[rate - 1, [9, 6, 4, 2, 1]] == pytest.approx(expected, abs=6e-4), rate
    means = [found.means[rate - 1] for rate in (1, 6, 12, 18, 24, 36, 64)]
    assert means == pytest.approx([8.82, 7.93, 6.92, 5.98, 5.11, 3.58, 1.06], abs=6e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 3, 5]), st.integers(1, 7))
def test_any_map_and_kernel_equals_a_plain_count(height: int, width: int, kernel: int, rate: int) -> None:
    rate = 2 * rate if kernel == 2 else rate
    reach = rate * (kernel - 1) // 2
    expected = np.zeros((height, width), dtype=int)
    for row, column in np.ndindex(height, width):
        for down, right in np.ndindex(kernel, kernel):
            y, x = row - reach + rate * down, column - reach + rate * right
            expected[row, column] += 0 <= y < height and 0 <= x < width
    assert (valid_map((height, width), kernel, rate) == expected).all()
    if kernel % 2:
        # What the convolution over the valid taps leaves out is what is counted here.
        inside = valid_share(height, kernel, rate) * valid_share(width, kernel, rate)
        assert expected.mean() / kernel**2 == pytest.approx(inside)


def test_a_kernel_without_a_centre_is_refused() -> None:
    with pytest.raises(AtrousError, match="4×4 kernel at rate 3 has no centre"):
        valid_weights(65, [4, 3], kernel_size=4)
