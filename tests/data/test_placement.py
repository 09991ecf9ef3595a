"""Where a crop lies: points of it, followed back into the photo."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.data import Augmentation

PAD = np.zeros(3, np.uint8)


def ramp(height, width):
    """A photo whose red is the row and whose green is the column, in fours so that neither leaves uint8."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4, columns * 4, 0 * rows], axis=-1).astype(np.uint8), np.zeros((height, width), np.uint8)


@given(
    height=st.integers(20, 60),
    width=st.integers(20, 60),
    seed=st.integers(0, 1000),
    align_corners=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_points_of_a_crop_say_where_its_pixels_came_from(height, width, seed, align_corners):
    """Enlarged, cut and mirrored: the colour at a point is the place in the photo that is said of it."""
    image, mask = ramp(height, width)
    augment = Augmentation(crop=(33, 49), scale=(1.0, 2.0))
    placement = augment.place(mask, np.random.default_rng(seed))
    crop = placement.photo(image, PAD).astype(float)
    rows, columns = placement.positions(mask.shape, (33, 49), align_corners)
    inside = np.logical_and.outer((rows >= 0) & (rows <= height - 1), (columns >= 0) & (columns <= width - 1))
    assert inside.any()
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    assert np.abs(crop[..., :2] - grid * 4)[inside].max() <= 1.0  # a quarter of a pixel, which is uint8's rounding
    void = placement.mask(mask) == 255
    assert np.array_equal(void, ~np.logical_and.outer(_within(rows, height), _within(columns, width)))


def _within(positions, side):
    return (positions >= -0.5) & (positions <= side - 0.5)


@pytest.mark.parametrize(
    ("align_corners", "expected"), [(True, [0, 16, 32]), (False, [5.0, 16.0, 27.0])], ids=["corners", "middles"]
)
def test_fewer_points_are_spread_as_logits_are(align_corners, expected):
    placement = Augmentation(crop=(33, 33), scale=(1.0, 1.0), flip=False).place(
        np.zeros((33, 33), np.uint8), np.random.default_rng(0)
    )
    rows, columns = placement.positions((33, 33), (3, 3), align_corners)
    np.testing.assert_allclose(rows, expected)
    np.testing.assert_allclose(columns, expected)
