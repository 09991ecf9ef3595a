"""Bilinear resizing with its own gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.ops import resize

sides = st.tuples(st.integers(1, 12), st.integers(1, 12))


def resized(function, x, grad):
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = function(x)
    return out, *torch.autograd.grad(out, x, grad.to(out.dtype))


@given(n=st.integers(1, 2), channels=st.integers(1, 5), coarse=sides, size=sides, align_corners=st.booleans())
@settings(max_examples=60, deadline=None)
def test_equal_to_torch(n, channels, coarse, size, align_corners):
    """Larger or smaller, either way of placing the corners."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, channels, *coarse, generator=generator).contiguous(memory_format=torch.channels_last)
    grad = torch.randn(n, channels, *size, generator=generator)
    exact = resized(
        lambda x: F.interpolate(x, size, mode="bilinear", align_corners=align_corners), x.double(), grad.double()
    )
    for mine, true in zip(resized(lambda x: resize(x, size, align_corners), x, grad), exact, strict=True):
        torch.testing.assert_close(mine.double(), true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("align_corners", [True, False])
def test_bfloat16_gradient_is_rounded_once(align_corners):
    """Weights of a ninth, say, are not: bfloat16 has no such number."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 8, 4, 5, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
    grad = torch.randn(1, 8, 28, 37, generator=generator).bfloat16()
    (_, exact) = resized(
        lambda x: F.interpolate(x, (28, 37), mode="bilinear", align_corners=align_corners), x.double(), grad.double()
    )
    (_, mine) = resized(lambda x: resize(x, (28, 37), align_corners), x, grad)
    assert mine.dtype == torch.bfloat16
    torch.testing.assert_close(mine.double(), exact, rtol=2**-8, atol=1e-5)
