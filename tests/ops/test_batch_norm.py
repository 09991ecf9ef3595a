"""The batch norm of training, with its activation, against torch's in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.ops import Clip, Running, batch_norm, has_batch_norm
from atrous.ops.batch_norm import reference_batch_norm

CLIPS = [Clip(), Clip(0.0), Clip(0.0, 6.0)]


def drawn(shape, mean=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = mean + torch.randn(shape, generator=generator)
    return x.contiguous(memory_format=torch.channels_last)


def values(channels):
    """Weight and bias, and running mean and variance."""
    spread = torch.linspace(-1, 1, channels)
    return 1.5 * spread, 1 - spread, 0.3 * spread, 1 + spread**2


def trained(normalise, x, grad, *, eps=1e-3, momentum=0.1, frozen=False, clip=CLIPS[0], dtype=None):
    """The output, the gradients of input, weight and bias, and the running statistics afterwards."""
    weight, bias, mean, variance = (value.to(dtype or torch.float32) for value in values(x.shape[1]))
    x = x.to(dtype or x.dtype).detach().requires_grad_()
    weight.requires_grad_()
    bias.requires_grad_()
    running = Running(mean, variance, momentum)
    out = normalise(x, weight, bias, running, eps, frozen=frozen, clip=clip)
    return out, *torch.autograd.grad(out, (x, weight, bias), grad.to(out.dtype)), mean, variance


def gradient_away_from_the_ends(x, clip, **options):
    """Random, but 0 where rounding decides on which side of the clip a number lies."""
    zero = torch.zeros_like(x)
    exact = trained(reference_batch_norm, x, zero, dtype=torch.float64, **options)[0]
    near = torch.stack([(exact - end).abs() for end in clip if math.isfinite(end)] or [exact + math.inf]).amin(0)
    return drawn(x.shape, seed=1) * (near > 1e-3)


@given(
    n=st.integers(1, 4),
    channels=st.integers(1, 40) | st.sampled_from([64, 256, 304, 1280]),
    height=st.integers(3, 9),
    width=st.integers(3, 9),
    clip=st.sampled_from(CLIPS),
    frozen=st.booleans(),
    eps=st.sampled_from([1e-5, 1e-3]),
    momentum=st.sampled_from([0.0, 0.05, 1.0]),
    mean=st.sampled_from([0.0, 20.0]),
)
@settings(max_examples=60, deadline=None)
def test_equal_to_torch(n, channels, height, width, clip, frozen, eps, momentum, mean):
    x = drawn((n, channels, height, width), mean)
    options = {"eps": eps, "momentum": momentum, "frozen": frozen}
    grad = gradient_away_from_the_ends(x, clip, **options)
    exact = trained(reference_batch_norm, x, grad, dtype=torch.float64, clip=clip, **options)
    ours = trained(batch_norm, x, grad, clip=clip, **options)
    assert has_batch_norm(x) == (x.numel() % 8 == 0)
    for mine, true in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(("threads", "large"), [(1, 0), (3, 1 << 40)])
def test_blocks_and_threads_are_put_together(clip, frozen, threads, large, monkeypatch):
    """Many blocks of sums, several threads, long rows made of short ones; past the caches or through them."""
    monkeypatch.setattr("atrous.ops.batch_norm_cpu._LARGE", large)
    x = drawn((3, 24, 50, 51), 5.0)
    grad = gradient_away_from_the_ends(x, clip, frozen=frozen)
    exact = trained(reference_batch_norm, x, grad, dtype=torch.float64, clip=clip, frozen=frozen)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ours = trained(batch_norm, x, grad, clip=clip, frozen=frozen)
    finally:
        torch.set_num_threads(before)
    for mine, true in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=1e-5, atol=1e-5 * true.abs().max().item())


def test_a_large_mean_costs_no_digits():
    """A sum of squares in float32 would find no variance at all here: 1e8 beside 1."""
    x = drawn((4, 16, 40, 40), 1e4)
    _, _, _, _, mean, variance = trained(batch_norm, x, torch.zeros_like(x), momentum=1.0)
    exact = x.double()
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=1e-7, atol=0)
    torch.testing.assert_close(variance.double(), exact.var((0, 2, 3)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("large", [0, 1 << 40])
def test_bfloat16_is_rounded_once(frozen, large, monkeypatch):
    monkeypatch.setattr("atrous.ops.batch_norm_cpu._LARGE", large)
    x = drawn((2, 48, 12, 12)).bfloat16()
    grad = gradient_away_from_the_ends(x, CLIPS[2], frozen=frozen).bfloat16()
    exact = trained(reference_batch_norm, x, grad, dtype=torch.float64, clip=CLIPS[2], frozen=frozen)
    ours = trained(batch_norm, x, grad, clip=CLIPS[2], frozen=frozen)
    assert [tensor.dtype for tensor in ours] == [torch.bfloat16] * 2 + [torch.float32] * 4
    for mine, true in zip(ours[:2], exact[:2], strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=2**-8, atol=1e-5)
    for mine, true in zip(ours[2:], exact[2:], strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("clip", CLIPS[1:])
def test_at_an_end_no_gradient_passes(clip):
    """A channel of weight 0 lies wholly at 0, where ReLU's gradient is 0 and clamp's is not."""
    x = drawn((2, 8, 4, 4))
    weight, bias = torch.zeros(8, requires_grad=True), torch.zeros(8, requires_grad=True)
    out = batch_norm(x, weight, bias, Running(torch.zeros(8), torch.ones(8), 0.1), 1e-3, clip=clip)
    out.sum().backward()
    assert not weight.grad.any()
    assert not bias.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_is_not_hidden(dtype):
    """Not by the clip, nor by rounding: a run that diverges is to be seen."""
    x = drawn((2, 16, 4, 4)).to(dtype)
    x[1, 3, 2, 2] = math.nan
    out, grad, *_, mean, _ = trained(batch_norm, x, torch.ones_like(x), clip=CLIPS[2])
    assert out[:, 3].isnan().all()
    assert grad[:, 3].isnan().all()
    assert mean.isnan().nonzero().flatten().tolist() == [3]
    assert not out[:, :3].isnan().any()


@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
@pytest.mark.parametrize("frozen", [False, True])
def test_one_gradient_alone(wanted, frozen):
    x = drawn((2, 16, 4, 4))
    grad = gradient_away_from_the_ends(x, CLIPS[1], frozen=frozen)
    given = dict(zip(("weight", "bias"), values(16), strict=False), x=x)
    leaf = given[wanted].requires_grad_()
    out = batch_norm(
        given["x"],
        given["weight"],
        given["bias"],
        Running(*values(16)[2:], 0.1),
        1e-3,
        frozen=frozen,
        clip=CLIPS[1],
    )
    (alone,) = torch.autograd.grad(out, leaf, grad)
    together = trained(batch_norm, x.detach(), grad, frozen=frozen, clip=CLIPS[1])
    torch.testing.assert_close(alone, together[1 + ("x", "weight", "bias").index(wanted)])
