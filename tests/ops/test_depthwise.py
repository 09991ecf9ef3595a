"""The depthwise convolution's own gradients against torch's."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.ops import depthwise_conv2d
from atrous.ops.threads import split

CHANNELS = 64  # the fewest that take our path


def gradients(convolve, x, weight, grad):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = convolve(x, weight)
    return out, *torch.autograd.grad(out, (x, weight), grad)


@given(
    n=st.integers(1, 3),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    rate=st.integers(1, 6),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_gradients_equal_torch(n, height, width, kernel, stride, rate, data):
    reach = rate * (kernel - 1)
    lowest = max(0, -(-(reach + 1 - min(height, width)) // 2))  # less, and the output would be empty
    padding = data.draw(st.integers(lowest, max(lowest, reach) + 1))
    generator = torch.Generator().manual_seed(height * 31 + width)
    x = torch.randn(n, CHANNELS, height, width, generator=generator)
    weight = torch.randn(CHANNELS, 1, kernel, kernel, generator=generator)
    plain = F.conv2d(x.double(), weight.double(), None, stride, padding, rate, CHANNELS)
    grad = torch.randn(plain.shape, generator=generator)
    theirs = gradients(
        lambda a, b: F.conv2d(a, b, None, stride, padding, rate, CHANNELS), x.double(), weight.double(), grad.double()
    )
    ours = gradients(lambda a, b: depthwise_conv2d(a, b, stride, padding, rate), x, weight, grad)
    for mine, exact in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stride", "rate"), [(1, 1), (2, 1), (1, 2)])
def test_bfloat16_sums_in_float32(stride, rate):
    """The weight gradient of a long sum is right to bfloat16's last place: it is rounded once, at the end."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, CHANNELS, 40, 40, generator=generator).bfloat16()
    weight = torch.randn(CHANNELS, 1, 3, 3, generator=generator).bfloat16()
    grad = torch.randn(F.conv2d(x, weight, None, stride, rate, rate, CHANNELS).shape, generator=generator).bfloat16()
    exact = gradients(
        lambda a, b: F.conv2d(a, b, None, stride, rate, rate, CHANNELS), x.double(), weight.double(), grad.double()
    )
    ours = gradients(lambda a, b: depthwise_conv2d(a, b, stride, rate, rate), x, weight, grad)
    assert all(tensor.dtype == torch.bfloat16 for tensor in ours)
    for mine, true in zip(ours[1:], exact[1:], strict=True):
        assert ((mine.double() - true).abs() <= true.abs() * 2**-7 + 0.02 * true.abs().mean()).all()


@given(
    n=st.integers(1, 2),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    kernel=st.sampled_from([3, 5]),
    rate=st.integers(7, 22),
    narrower=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    trained=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_large_rates_equal_torch(n, height, width, kernel, rate, narrower, dtype, layout, trained):
    """Where the padding is wide the output is ours too, with and without gradients."""
    reach = rate * (kernel - 1)
    padding = reach // 2 - min(narrower, (min(height, width) - 1) // 2)
    generator = torch.Generator().manual_seed(height * 31 + width)
    x = torch.randn(n, CHANNELS, height, width, generator=generator).to(dtype).contiguous(memory_format=layout)
    weight = torch.randn(CHANNELS, 1, kernel, kernel, generator=generator).to(dtype)
    exact = F.conv2d(x.double(), weight.double(), None, 1, padding, rate, CHANNELS)
    with torch.set_grad_enabled(trained):
        out = depthwise_conv2d(x, weight, 1, padding, rate)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=layout)
    tolerance = 1e-5 if dtype == torch.float32 else 2**-8
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=1e-5)
    if trained and dtype == torch.float32:
        grad = torch.randn(exact.shape, generator=generator)
        mine = gradients(lambda a, b: depthwise_conv2d(a, b, 1, padding, rate), x, weight, grad)
        plain = gradients(
            lambda a, b: F.conv2d(a, b, None, 1, padding, rate, CHANNELS), x.double(), weight.double(), grad.double()
        )
        for a, b in zip(mine, plain, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_autocast_decides_the_type():
    x, weight = torch.randn(1, CHANNELS, 6, 6), torch.randn(CHANNELS, 1, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = depthwise_conv2d(x, weight, padding=1)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert weight.grad.dtype == torch.float32


def test_split_covers_the_range_once_in_order():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for count in (0, 1, 2, 3, 7, 100):
            parts = split(count, lambda start, stop: list(range(start, stop)))
            assert [i for part in parts for i in part] == list(range(count))
    finally:
        torch.set_num_threads(threads)
