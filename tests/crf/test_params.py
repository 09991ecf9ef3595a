"""Parameters by value, by name and from a file; unaries from what there is."""

import numpy as np
import pytest
import torch

from atrous.crf import (
    NAMED,
    CRFParams,
    parse_crf,
    unary_from_labels,
    unary_from_logits,
    unary_from_probabilities,
)
from atrous.errors import AtrousError


def test_the_papers_parameters_have_names():
    assert parse_crf("voc") == CRFParams() == CRFParams(3, 3, 4, 67, 3)
    assert parse_crf("v1-large-fov") == CRFParams(3, 3, 4, 49, 5)
    assert parse_crf("kazuto1011").gaussian_sxy == 1
    assert {params.gaussian_weight for params in NAMED.values()} == {3}


def test_a_file_says_what_differs(tmp_path):
    file = tmp_path / "crf.yaml"
    file.write_text("# found\nbilateral_weight: 5\nbilateral_srgb: 4.5\n")
    assert parse_crf(str(file)) == CRFParams(bilateral_weight=5, bilateral_srgb=4.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bilateral_width: 3", "holds bilateral_width"),
        ("- 3", "parameters of a CRF are"),
        ("a: [", "not YAML"),
        ("bilateral_sxy: 0", "bilateral_sxy=0"),
        ("bilateral_sxy: wide", "'wide'"),
        ("gaussian_weight: -1", "gaussian_weight=-1"),
        ("gaussian_weight: .nan", "nan"),
        ("gaussian_weight: true", "True"),
    ],
)
def test_a_file_with_something_else_is_refused(tmp_path, text, message):
    file = tmp_path / "crf.yaml"
    file.write_text(text)
    with pytest.raises(AtrousError, match=message) as raised:
        parse_crf(str(file))
    assert str(raised.value).startswith(str(file))
    assert "\n" not in str(raised.value)


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(AtrousError, match="neither a file nor one of voc, "):
        parse_crf("vok")


def test_unaries_of_probabilities_and_logits_are_the_same():
    logits = torch.randn(4, 5, 6)
    torch.testing.assert_close(unary_from_logits(logits), unary_from_probabilities(logits.softmax(0)))
    assert unary_from_probabilities(torch.tensor([0.0, 1.0])).isfinite().all()
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(AtrousError, match="negative or not finite"):
            unary_from_probabilities(torch.tensor([0.5, wrong]))


def test_unaries_of_labels():
    unary = unary_from_labels(torch.tensor([[0, 2, 255]], dtype=torch.uint8), 3, confidence=0.8)
    np.testing.assert_allclose(
        (-unary).exp()[:, 0], [[0.8, 0.1, 1 / 3], [0.1, 0.1, 1 / 3], [0.1, 0.8, 1 / 3]], rtol=1e-5
    )
    with pytest.raises(AtrousError, match="hold 3: they are 0 to 2"):
        unary_from_labels(torch.tensor([3]), 3, 0.8)
    for classes, confidence in ((1, 0.5), (3, 0.0), (3, 1.0)):
        with pytest.raises(AtrousError, match="between 0 and 1"):
            unary_from_labels(torch.tensor([0]), classes, confidence)
