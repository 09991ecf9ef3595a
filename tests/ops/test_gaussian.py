"""The Gaussian blur of images against the exact one."""

import numpy as np
import pytest
import torch

from atrous.ops import gaussian_filter


def exact(height, width, sigma):
    y, x = np.mgrid[:height, :width]
    places = torch.from_numpy(np.stack([y, x], -1).reshape(-1, 2)).double()
    return torch.exp(-(torch.cdist(places, places) ** 2) / (2 * sigma**2))


def matrix(height, width, sigma, dtype=torch.float64):
    pixels = height * width
    eye = torch.eye(pixels, dtype=dtype).view(pixels, height, width)
    return gaussian_filter(eye, sigma).reshape(pixels, pixels)


@pytest.mark.parametrize(
    ("sigma", "error"), [(0.3, 1e-6), (1, 0.001), (1.5, 0.001), (2, 0.004), (3, 0.055), (5, 0.04), (12.5, 0.04)]
)
def test_close_to_the_exact_gaussian(sigma, error):
    """The permutohedral lattice is off by .16, and by .09 once normalised: see test_permutohedral.py."""
    gauss, ours = exact(27, 31, sigma), matrix(27, 31, sigma)
    ratio = [each / (each.sum(0)[:, None] * each.sum(0)).sqrt() for each in (gauss, ours)]
    assert (ratio[1] - ratio[0]).norm() / ratio[0].norm() < error
    middle = 13 * 31 + 15
    if sigma < 4:  # else the borders reach the middle
        assert float(ours[middle].sum()) == pytest.approx(float(gauss[middle].sum()), rel=0.01)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 1), (9, 10)])
@pytest.mark.parametrize("sigma", [1, 3, 20])
def test_its_own_transpose_on_images_of_any_size(size, sigma):
    ours = matrix(*size, sigma)
    torch.testing.assert_close(ours, ours.T)
    assert (ours >= 0).all()
    torch.testing.assert_close(matrix(*size, sigma, torch.float32).double(), ours, rtol=1e-5, atol=1e-5)


def test_gradients_flow_to_the_values():
    values = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images: gaussian_filter(images, 3.0), values)
