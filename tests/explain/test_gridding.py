"""Which pixels fall through: against sums of offsets, and against the rule of hybrid dilated convolution."""

from itertools import combinations_with_replacement, product
from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.explain import gridding
from atrous.explain.gridding import hdc_distance


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from([3, 5]))
def test_ways_are_the_sums_of_one_offset_a_layer(rates: list[int], kernel: int) -> None:
    [stack] = gridding([rates], kernel).stacks
    half = kernel // 2
    reach = sum(rates) * half
    line = np.zeros(2 * reach + 1)
    for taps in product(range(-half, half + 1), repeat=len(rates)):
        line[reach + sum(tap * rate for tap, rate in zip(taps, rates, strict=True))] += 1
    assert (stack.paths == np.outer(line, line)).all()
    assert stack.reached == pytest.approx((np.count_nonzero(line) / line.size) ** 2)


def test_one_rate_throughout_reaches_every_second_pixel_and_hybrid_rates_all() -> None:
    same, hybrid = gridding([(2, 2, 2), (1, 2, 3)]).stacks
    assert same.side == hybrid.side == 13
    assert (np.argwhere(same.paths) % 2 == 0).all()
    assert (same.reached, same.step) == ((7 / 13) ** 2, 2)
    assert (hybrid.reached, hybrid.step) == (1, 1)


def test_the_rule_says_for_every_rising_stack_from_rate_1_whether_it_has_holes() -> None:
    stacks = [(1, *others) for count in (1, 2, 3) for others in combinations_with_replacement(range(1, 8), count)]
    for stack in gridding(stacks).stacks:
        assert (stack.bridged <= 3) == (stack.step == 1), stack.rates


def test_the_rule_on_its_papers_own_examples() -> None:
    # Wang et al., section 3.2: with kernels of 3, (1, 2, 5) works since M2 = 2, and (1, 2, 9) does not since M2 = 5.
    assert (hdc_distance((1, 2, 5)), hdc_distance((1, 2, 9))) == (2, 5)


def test_a_common_factor_leaves_holes_whatever_the_distance() -> None:
    for rates in [(2, 2), (2, 4, 8), (3, 3, 6)]:
        [stack] = gridding([rates]).stacks
        assert stack.step % gcd(*rates) == 0
        assert stack.step > 1


def test_impossible_stacks_are_refused() -> None:
    for rates, kernel in [((0, 1), 3), ((1, 2), 4), ((4000,), 3), ((), 3)]:
        with pytest.raises(AtrousError):
            gridding([rates], kernel)
