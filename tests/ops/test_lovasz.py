"""The Lovász extension counted in steps, against the sorted one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.ops import lovasz_losses
from atrous.ops.lovasz import reference_lovasz_losses

VOID = 255


def drawn(seed, n, classes, height, width, sharpness, void=0.2):
    generator = torch.Generator().manual_seed(seed)
    p = (sharpness * torch.randn(n, classes, height, width, generator=generator)).softmax(1)
    target = torch.randint(0, classes, (n, height, width), generator=generator)
    return p, target.masked_fill(torch.rand(target.shape, generator=generator) < void, VOID)


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 3),
    classes=st.integers(1, 6),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    sharpness=st.sampled_from([0.1, 1.0, 20.0]),
    dtype=st.sampled_from([torch.uint8, torch.int64]),
)
@settings(max_examples=60, deadline=None)
def test_differs_by_less_than_a_step(seed, n, classes, height, width, sharpness, dtype):
    p, target = drawn(seed, n, classes, height, width, sharpness)
    exact = reference_lovasz_losses(p.double(), target)
    torch.testing.assert_close(lovasz_losses(p, target.to(dtype)).double(), exact, rtol=0, atol=8e-6)


@pytest.mark.parametrize("threads", [1, 3])
def test_gradient_is_the_sorted_ones(threads):
    """Where no two errors share a step: then nothing is left to choose."""
    n = 900
    p = torch.stack(
        [torch.linspace(0.0103, 0.9911, n)[torch.randperm(n, generator=torch.Generator().manual_seed(0))]] * 4
    )
    p = p.reshape(1, 4, 30, 30).clone().requires_grad_()
    target = drawn(1, 1, 4, 30, 30, 1.0)[1]
    shares = torch.tensor([1.0, 2.0, -1.0, 0.5])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (found,) = torch.autograd.grad(lovasz_losses(p, target) @ shares, p)
    finally:
        torch.set_num_threads(before)
    exact = p.detach().double().requires_grad_()
    (true,) = torch.autograd.grad(reference_lovasz_losses(exact, target) @ shares.double(), exact)
    torch.testing.assert_close(found.double(), true, rtol=1e-5, atol=1e-9)
    assert not found[(target == VOID)[:, None].expand_as(found)].any()


def test_gradient_is_the_sorted_ones_with_many_pixels_a_step():
    """Half a million pixels, nearly right, so that most errors are small: summed over 4×4 pixels, as logits get it."""
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, 5, (2, 500, 500), generator=generator)
    logits = 4 * torch.nn.functional.one_hot(target, 5).movedim(-1, 1) + torch.randn(
        2, 5, 500, 500, generator=generator
    )
    p = logits.softmax(1).requires_grad_()
    exact = p.detach().double().requires_grad_()
    (found,) = torch.autograd.grad(lovasz_losses(p, target).sum(), p)
    (true,) = torch.autograd.grad(reference_lovasz_losses(exact, target).sum(), exact)
    assert (found - true).norm() < 0.02 * true.norm()
    found, true = (torch.nn.functional.avg_pool2d(slopes.double(), 4) for slopes in (found, true))
    assert (found - true).norm() < 0.02 * true.norm()


def test_pixels_of_equal_error_share_alike():
    p = torch.full((1, 1, 4, 8), 0.25, requires_grad=True)
    target = torch.zeros(1, 4, 8, dtype=torch.long)
    lovasz_losses(p, target).sum().backward()
    torch.testing.assert_close(p.grad, torch.full_like(p, -1 / 32))


def test_nothing_that_counts_gives_nothing():
    p = drawn(0, 1, 3, 4, 4, 1.0)[0].requires_grad_()
    losses = lovasz_losses(p, torch.full((1, 4, 4), VOID))
    losses.sum().backward()
    assert losses.tolist() == [0, 0, 0]
    assert not p.grad.any()


def test_what_is_not_a_number_is_not_hidden():
    p, target = drawn(0, 1, 3, 8, 8, 1.0, void=0.0)
    p[0, 1, 2, 3] = math.nan
    p.requires_grad_()
    losses = lovasz_losses(p, target)
    losses.sum().backward()
    assert losses.isnan().tolist() == [False, True, False]
    assert p.grad[0, 1, 2, 3].isnan()
