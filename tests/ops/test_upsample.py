"""The fused ends of the network against torch's own separate steps."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.ops import upsample_argmax, upsample_cross_entropy

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
big = st.tuples(st.integers(1, 150), st.integers(1, 40))


@given(coarse=sizes, size=big, classes=st.integers(1, 6), align=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_argmax_equals_interpolate_then_argmax(coarse, size, classes, align, seed):
    logits = torch.randn(2, classes, *coarse, generator=torch.Generator().manual_seed(seed))
    full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=align)
    labels = upsample_argmax(logits, size, align)
    # Whichever class wins, its exact logit is the largest, but for rounding.
    won = full.gather(1, labels.long()[:, None])[:, 0]
    assert labels.shape == (2, *size)
    assert torch.all(won >= full.amax(1) - 1e-5)


@given(crop=st.tuples(st.integers(1, 70), st.integers(1, 81)), align=st.booleans())
@settings(max_examples=20, deadline=None)
def test_crop_is_the_top_left_of_the_whole(crop, align):
    logits = torch.randn(1, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    whole = upsample_argmax(logits, (70, 81), align)
    assert torch.equal(upsample_argmax(logits, (70, 81), align, crop=crop), whole[:, : crop[0], : crop[1]])


def test_the_lowest_of_equal_classes_wins():
    assert upsample_argmax(torch.zeros(1, 5, 3, 3), (7, 7)).max() == 0


def test_more_classes_than_a_byte_holds_are_refused():
    with pytest.raises(AtrousError, match="257 classes"):
        upsample_argmax(torch.zeros(1, 257, 2, 2), (4, 4))


@given(coarse=sizes, align=st.booleans(), weighted=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_equals_torch_on_full_size_logits(coarse, align, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, *coarse, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.randint(0, 5, (2, 17, 23), generator=generator, dtype=torch.uint8)
    target[torch.rand(target.shape, generator=generator) < 0.3] = 255
    weight = torch.rand(5, dtype=torch.float64, generator=generator) + 0.1 if weighted else None
    loss = upsample_cross_entropy(logits, target, align_corners=align, weight=weight)
    full = F.interpolate(logits, (17, 23), mode="bilinear", align_corners=align)
    expected = F.cross_entropy(full, target.long(), weight=weight, ignore_index=255)
    torch.testing.assert_close(loss, expected)
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("weight", [None, torch.ones(3)])
def test_a_batch_that_is_all_void_gives_no_loss_and_no_gradient(weight):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = upsample_cross_entropy(logits, torch.full((1, 8, 8), 255), weight=weight)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_loss_is_taken_in_float32_from_half_precision_logits():
    logits = torch.randn(1, 3, 4, 4)
    target = torch.randint(0, 3, (1, 8, 8))
    half = upsample_cross_entropy(logits.bfloat16(), target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, upsample_cross_entropy(logits.bfloat16().float(), target))
