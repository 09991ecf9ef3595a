"""A model that the tests can see through."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from atrous.inference import Predictor
from atrous.weights import ModelCard


class WholeNumbers(nn.Module):
    """A network with a receptive field of 11 pixels at stride 16, whose arithmetic is exact in float32.

    Weights are small whole numbers, and with `EXACT_CARD` pixels are 0..255: no order of summation rounds,
    so that what should be equal can be compared to the bit.
    """

    num_classes = 4
    output_stride = 16

    def __init__(self, align_corners: bool = True) -> None:
        super().__init__()
        self.align_corners, self.extra_pixels = align_corners, int(align_corners)
        generator = torch.Generator().manual_seed(3)
        self.first = nn.Parameter(torch.randint(-3, 4, (5, 3, 3, 3), generator=generator).float())
        self.second = nn.Parameter(torch.randint(-3, 4, (4, 5, 3, 3), generator=generator).float())

    def coarse_logits(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.first, stride=4, padding=1)
        return F.conv2d(x.clamp(min=0), self.second, stride=4, padding=1)


COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))
EXACT_CARD = ModelCard(("a", "b", "c", "d"), COLOURS, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


@pytest.fixture
def exact() -> Predictor:
    return Predictor(WholeNumbers(), EXACT_CARD, device="cpu")


@pytest.fixture
def make_exact() -> Callable[[bool], Predictor]:
    """As `exact`, with corners aligned or not."""
    return lambda align_corners: Predictor(WholeNumbers(align_corners), EXACT_CARD, device="cpu")


class Brightness(nn.Module):
    """Logits are the photo's red channel, sampled at the stride, against zero."""

    num_classes = 2
    output_stride = 16
    align_corners, extra_pixels = True, 1

    def coarse_logits(self, x: Tensor) -> Tensor:
        red = x[:, :1, ::16, ::16]
        return torch.cat([red, torch.zeros_like(red)], dim=1)


@pytest.fixture
def brightness() -> Predictor:
    """Classes "light" and "dark"; the logit of light is -1 for black and 1 for white."""
    card = ModelCard(("light", "dark"), ((255, 255, 255), (0, 0, 0)))
    return Predictor(Brightness(), card, device="cpu")


@pytest.fixture
def make_photo() -> Callable[..., NDArray[np.uint8]]:
    def make(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
        """Coloured blotches of some 16 pixels, with noise: regions that are large enough to have an inside."""
        random = np.random.default_rng([seed, height, width])
        coarse = random.integers(0, 200, (height // 16 + 2, width // 16 + 2, 3))
        large = np.kron(coarse, np.ones((16, 16, 1), dtype=np.int64))[:height, :width]
        return np.ascontiguousarray(large + random.integers(0, 56, (height, width, 3)), dtype=np.uint8)

    return make
