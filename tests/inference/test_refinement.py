"""The CRF behind the network: over the whole photo, whatever came before it."""

import numpy as np
import pytest
import torch

from atrous.crf import CRFParams, mean_field, unary_from_probabilities
from atrous.errors import AtrousError
from atrous.inference import Failure

PARAMS = CRFParams(3, 3, 5, 20, 20)


def refined(plain, params):
    q = mean_field(unary_from_probabilities(torch.from_numpy(plain.scores())).numpy(), plain.image, params)
    return q.argmax(0)


@pytest.mark.parametrize("options", [{}, {"flip": True, "scales": (0.5, 1)}, {"tile": 129}])
def test_the_probabilities_are_refined_once_over_the_whole_photo(brightness, make_photo, options):
    photo = make_photo(150, 161)
    expected = refined(brightness(photo, scores=True, **options), PARAMS)
    result = brightness(photo, crf=PARAMS, **options)
    assert (result.labels == expected).mean() > 0.999  # but for labels that were left out
    assert (result.labels != brightness(photo, **options).labels).mean() > 0.01
    assert result.probabilities is None
    kept = brightness(photo, crf=PARAMS, scores=True, **options)
    np.testing.assert_array_equal(kept.labels, result.labels)
    np.testing.assert_array_equal(kept.scores().argmax(0), result.labels)
    np.testing.assert_allclose(kept.scores().sum(0), 1, rtol=1e-5)


def test_three_ways_to_ask_for_it(brightness, make_photo, tmp_path):
    photo = make_photo(60, 70)
    expected = brightness(photo, crf=CRFParams()).labels
    file = tmp_path / "crf.yaml"
    file.write_text("bilateral_weight: 4\n")
    for asked in (True, "voc", str(file)):
        np.testing.assert_array_equal(brightness(photo, crf=asked).labels, expected)
    assert (brightness(photo, crf="pydensecrf").labels != expected).any()


def test_photos_in_a_row_and_bad_ones_between(brightness, make_photo):
    photos = [make_photo(40, 50), "gone.jpg", make_photo(40, 50, seed=1), make_photo(1, 1)]
    results = list(brightness.stream(photos, crf=True))
    assert isinstance(results[1], Failure)
    for index in (0, 2, 3):
        np.testing.assert_array_equal(results[index].labels, brightness(photos[index], crf=True).labels)


def test_an_unknown_name_is_told_before_any_photo_is_read(brightness):
    with pytest.raises(AtrousError, match="crf 'vok'"):
        brightness.stream(iter(()), crf="vok")
