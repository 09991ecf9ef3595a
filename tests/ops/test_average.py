"""The mean of the softmax over views, against the same in plain torch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.ops import Taps, View, average_views
from atrous.ops.average import reference_average


def taps(size, coarse, generator, mirrored):
    """Any ascending places, as a scale and padding give them."""
    position = torch.rand(size, generator=generator, dtype=torch.float64).sort().values * (coarse - 1)
    lower = position.floor().long()
    along = Taps(lower, (lower + 1).clamp(max=coarse - 1), (position - lower).float())
    return Taps(*(each.flip(0) for each in along)) if mirrored else along


@given(
    classes=st.sampled_from([1, 2, 8, 11, 21]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    coarse=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=3),
    flip=st.booleans(),
    spread=st.sampled_from([1.0, 50.0, 1000.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_it_equals_the_reference(classes, size, coarse, flip, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    groups = []
    for h, w in coarse:
        rows, group = taps(size[0], h, generator, False), []
        for mirrored in (False, True)[: 1 + flip]:
            logits = torch.randn(2, classes, h, w, generator=generator) * spread
            group.append(View(logits, rows, taps(size[1], w, generator, mirrored)))
        groups.append(group)
    labels, means = average_views(groups, scores=True)
    expected = torch.cat([mean for _, mean in reference_average(groups)], 2)
    # A logit of 1000 is known to 6e-5, and so is what an exponential makes of it.
    torch.testing.assert_close(means, expected, rtol=1e-4 * max(1, spread / 50), atol=1e-6 * spread)
    torch.testing.assert_close(means.sum(1), torch.ones(2, *size))
    assert torch.equal(labels.long(), means.max(1).indices)
    alone, none = average_views(groups, scores=False)
    assert none is None
    assert torch.equal(alone, labels)


@pytest.mark.parametrize("classes", [3, 21])
def test_mirrored_views_give_the_mirrored_mean_to_the_last_bit(classes):
    generator = torch.Generator().manual_seed(0)
    rows, columns = taps(30, 5, generator, False), taps(41, 7, generator, False)
    back = Taps(*(each.flip(0) for each in columns))
    one, other = (torch.randn(1, classes, 5, 7, generator=generator) for _ in range(2))
    straight = average_views([[View(one, rows, columns), View(other, rows, back)]] * 2, True)[1]
    mirrored = average_views([[View(other, rows, columns), View(one, rows, back)]] * 2, True)[1]
    assert torch.equal(mirrored, straight.flip(3))
