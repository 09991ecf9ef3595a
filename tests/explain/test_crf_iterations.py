"""The CRF's states are those that the CRF itself goes through."""

import numpy as np
import pytest
import torch

from atrous.crf import CRFParams, mean_field, unary_from_logits
from atrous.errors import AtrousError
from atrous.explain import crf_iterations, prepare

PARAMS = CRFParams(3, 3, 4, 20, 8)


def test_each_state_is_what_so_many_iterations_of_inference_give(small, photo) -> None:
    found = crf_iterations(small, photo, PARAMS, iterations=3, follow="class 2")
    with torch.inference_mode():
        logits = small.model(prepare(small, photo).tensor)[0, :, :70, :100]
    unary = unary_from_logits(logits)
    assert found.followed == 2
    for state in range(4):
        q = mean_field(unary[None], torch.from_numpy(photo.copy())[None], PARAMS, state)[0]
        assert found.q[state] == pytest.approx(q[2].numpy(), abs=2e-3)
        assert np.mean(found.labels[state] == q.argmax(0).numpy()) > 0.999
    assert found.changed == [np.mean(found.labels[i] != found.labels[i + 1]) for i in range(3)]
    assert found.energy[-1] < found.energy[0]


def test_the_followed_class_is_the_one_whose_area_changes_most(small, photo) -> None:
    found = crf_iterations(small, photo, PARAMS, iterations=2)
    moved = [np.count_nonzero((found.labels[0] == k) != (found.labels[-1] == k)) for k in range(5)]
    assert max(moved) == moved[found.followed] > 0


def test_misuse_is_named(small, photo) -> None:
    with pytest.raises(AtrousError, match="no class 'cat': the model knows class 0"):
        crf_iterations(small, photo, follow="cat")
    with pytest.raises(AtrousError, match="iterations=0"):
        crf_iterations(small, photo, iterations=0)
