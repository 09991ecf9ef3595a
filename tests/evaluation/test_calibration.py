"""The expected calibration error by hand and by its definition."""

import numpy as np
import pytest

from atrous.evaluation import Calibration


def test_by_hand():
    """Two of four right at .9, none of two at .5; void is not judged: (4 · |.5 - .9| + 2 · |0 - .5|) / 6."""
    truth = np.array([[0, 0, 1, 1, 0, 1, 255]], np.uint8)
    found = np.array([[0, 0, 0, 0, 1, 0, 0]], np.uint8)
    sure = np.array([[0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.99]], np.float32)
    scored = Calibration()
    scored.add(truth, found, sure)
    told = scored.reliability()
    assert told.error == pytest.approx((4 * 0.4 + 2 * 0.5) / 6)
    assert sum(told.pixels) == 6
    assert told.accuracy[13] == 0.5
    assert told.confidence[13] == pytest.approx(0.9)
    assert told.accuracy[0] is None


def test_equals_its_definition_on_random_values():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (40, 50)).astype(np.uint8)
    found = random.integers(0, 3, (40, 50)).astype(np.uint8)
    sure = random.uniform(0.33, 1, (40, 50)).astype(np.float32)
    scored = Calibration()
    scored.add(truth, found, sure)
    error = 0.0
    for low in range(15):
        inside = (sure > low / 15) & (sure <= (low + 1) / 15)
        if inside.any():
            error += inside.mean() * abs((truth == found)[inside].mean() - sure[inside].mean())
    assert scored.reliability().error == pytest.approx(error, abs=1e-6)


def test_certainty_lies_in_the_last_bin():
    scored = Calibration()
    scored.add(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8), np.array([[1.0, 1.0000001]], np.float32))
    assert scored.reliability().pixels[-1] == 2
    assert scored.reliability().error == 0
