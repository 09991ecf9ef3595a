"""Weights from histograms, by hand; and that photos drawn by them show each class as often."""

import math

import numpy as np
import pytest

from atrous.data import open_dataset
from atrous.data.balance import bounded_weights, count_pixels, median_frequency_weights, sampling_weights
from data_sets import folder, mask, stripes

# Three photos of 100 pixels that count: the last class occurs nowhere, the third in one photo.
COUNTS = np.array([[90, 10, 0, 0], [60, 40, 0, 0], [0, 50, 50, 0]])


def test_pixels_are_counted_by_photo_without_void(tmp_path):
    root = folder(tmp_path, {"train": 2})
    mask(root / "masks" / "train" / "1.png", stripes(2, 255, 255, 0))
    seen = []
    counts = count_pixels(open_dataset(root, "train"), lambda *done: seen.append(done))
    assert counts.tolist() == [[48, 0, 0], [12, 0, 12]]
    assert seen == [(1, 2), (2, 2)]


def test_median_frequency():
    # Of the photos that hold it: 150 of 200, 100 of 300, 50 of 100; the median is 1/2.
    expected = [0.5 / 0.75, 0.5 / (1 / 3), 1.0, 0.0]
    assert median_frequency_weights(COUNTS).tolist() == pytest.approx(expected)
    assert median_frequency_weights(np.zeros((2, 3), int)).tolist() == [0, 0, 0]


def test_enets_weights_are_bounded():
    expected = [1 / math.log(1.02 + share) for share in (0.5, 1 / 3, 1 / 6, 0)]
    assert bounded_weights(COUNTS).tolist() == pytest.approx(expected)
    assert bounded_weights(np.array([[5, 0]])).tolist() == pytest.approx([1 / math.log(2.02), 1 / math.log(1.02)])


def test_photos_are_drawn_so_that_each_class_is_the_reason_as_often():
    shares = sampling_weights(COUNTS)
    third = 1 / 3
    assert shares.tolist() == pytest.approx([third * (1 / 2 + 1 / 3), third * (1 / 2 + 1 / 3), third * (1 / 3 + 1)])
    assert shares.sum() == pytest.approx(1)
    assert sampling_weights(np.zeros((4, 2), int)).tolist() == [0.25] * 4
    # Of many photos with a rare class in one of them, that one comes as often as all others together.
    many = np.tile([100, 0], (50, 1))
    many[7] = [90, 10]
    assert sampling_weights(many)[7] == pytest.approx(0.5 + 0.5 / 50)
