"""The colour map against PASCAL VOC's published one."""

import numpy as np
import pytest

from atrous.errors import AtrousError
from atrous.weights import label_colours

VOC = {
    0: (0, 0, 0),
    1: (128, 0, 0),
    2: (0, 128, 0),
    3: (128, 128, 0),
    4: (0, 0, 128),
    8: (64, 0, 0),
    15: (192, 128, 128),
    20: (0, 64, 128),
    255: (224, 224, 192),
}


def test_the_colours_are_vocs() -> None:
    colours = label_colours(256)
    assert {label: tuple(colours[label].tolist()) for label in VOC} == VOC


def test_no_two_labels_share_a_colour_and_fewer_labels_have_the_first_ones() -> None:
    assert len(np.unique(label_colours(256), axis=0)) == 256
    assert np.array_equal(label_colours(21), label_colours(256)[:21])


@pytest.mark.parametrize("count", [0, -1, 257])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(AtrousError, match="1 to 256"):
        label_colours(count)
