"""A small model ready to label a photo, and a photo."""

import numpy as np
import pytest
from explained_models import lively, predictor_of
from numpy.typing import NDArray
from PIL import Image

from atrous.inference import Predictor


@pytest.fixture
def small() -> Predictor:
    return predictor_of(lively("deeplabv3plus_mobilenet_v2_050"))


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """Blotches, 70×100."""
    random = np.random.default_rng(1)
    blotches = Image.fromarray(random.integers(0, 256, (7, 10, 3), dtype=np.uint8))
    return np.asarray(blotches.resize((100, 70)))
