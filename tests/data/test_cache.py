"""A data set in memory: the same pairs, decoded once, within what memory it may take."""

import numpy as np
import pytest

from atrous.data import cache as cache_module
from atrous.data import open_dataset
from atrous.data.cache import CachedDataset
from atrous.data.dataset import SegmentationDataset
from data_sets import folder

PAIR = 6 * 8 * 4  # bytes of a photo and its mask


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(folder(tmp_path, {"train": 5}), "train")


@pytest.fixture
def decoded(monkeypatch):
    """The indices that were decoded, in order."""
    seen = []
    plain = SegmentationDataset.__getitem__
    monkeypatch.setattr(
        SegmentationDataset, "__getitem__", lambda self, index: seen.append(index) or plain(self, index)
    )
    return seen


def test_every_pair_is_decoded_once(dataset, decoded):
    done = []
    cached = CachedDataset(dataset, progress=lambda *counts: done.append(counts))
    first, second = ([cached[index] for index in range(5)] for _ in range(2))
    assert sorted(decoded) == [0, 1, 2, 3, 4]
    assert done == [(index, 5) for index in range(1, 6)]
    for (image, labels), (again, _), index in zip(first, second, range(5), strict=True):
        assert image is again
        np.testing.assert_array_equal(labels, dataset.mask(index))
    assert not first[0][0].flags.writeable


def test_what_does_not_fit_is_decoded_each_time(dataset, decoded, monkeypatch):
    monkeypatch.setattr(cache_module.os, "cpu_count", lambda: 1)
    cached = CachedDataset(dataset, megabytes=2.5 * PAIR / 1e6)
    assert len(cached.pairs) == 2
    assert decoded == [0, 1, 2]
    assert len(cached) == 5
    for index in (4, 4, 1):
        labels = cached[index][1]
        np.testing.assert_array_equal(labels, dataset.mask(index))
    assert decoded == [0, 1, 2, 4, 4]


def test_half_of_the_free_memory_is_the_limit(dataset, monkeypatch):
    monkeypatch.setattr(cache_module, "free_memory", lambda: 6.0 * PAIR)
    assert len(CachedDataset(dataset).pairs) == 3


def test_free_memory_is_the_machines():
    assert 1e7 < cache_module.free_memory() < 1e14
