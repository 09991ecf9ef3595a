"""Labels in colour over a photo."""

import numpy as np
import pytest

from atrous.errors import AtrousError
from atrous.viz import overlay, overlay_strips
from atrous.weights import label_colours

rng = np.random.default_rng(0)
PHOTO = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
LABELS = rng.integers(0, 5, (37, 53), dtype=np.uint8)
PALETTE = [(10, 200, 30), (255, 0, 0), (0, 0, 255), (7, 8, 9), (200, 100, 50)]


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_each_pixel_goes_towards_its_labels_colour(alpha: float) -> None:
    expected = (1 - alpha) * PHOTO + alpha * np.array(PALETTE)[LABELS]
    shown = overlay(PHOTO, LABELS, PALETTE, alpha)
    assert shown.dtype == np.uint8
    assert np.abs(shown - expected).max() <= 0.5001
    if alpha == 0:
        assert np.array_equal(shown, PHOTO)
        assert not np.shares_memory(shown, PHOTO)


def test_labels_without_a_colour_leave_the_photo_as_it_is() -> None:
    labels = LABELS.copy()
    labels[5:9] = 255
    shown = overlay(PHOTO, labels, PALETTE, 1.0)
    assert np.array_equal(shown[5:9], PHOTO[5:9])
    assert np.array_equal(shown[9:], np.array(PALETTE, dtype=np.uint8)[labels[9:]])


@pytest.mark.parametrize("rows", [1, 5, 37, 100])
def test_strips_make_up_the_whole(rows: int) -> None:
    strips = list(overlay_strips(PHOTO, LABELS, PALETTE, 0.5, rows))
    assert [len(strip) for strip in strips[:-1]] == [rows] * (len(strips) - 1)
    assert np.array_equal(np.concatenate(strips), overlay(PHOTO, LABELS, PALETTE))


def test_arrays_in_any_layout_give_the_same() -> None:
    flipped = overlay(PHOTO[:, ::-1], LABELS[:, ::-1], np.array(PALETTE))
    assert np.array_equal(flipped[:, ::-1], overlay(PHOTO, LABELS, PALETTE))


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(AtrousError, match="labels of the image's size"):
        overlay(PHOTO, LABELS[:-1], PALETTE)
    with pytest.raises(AtrousError, match="uint8 H×W×3"):
        overlay(PHOTO[..., 0], LABELS, PALETTE)
    with pytest.raises(AtrousError, match="alpha"):
        overlay(PHOTO, LABELS, PALETTE, 1.5)
    with pytest.raises(AtrousError, match="palette is n×3"):
        overlay(PHOTO, LABELS, [(1, 2)])
    with pytest.raises(AtrousError, match="0 to 255"):
        overlay(PHOTO, LABELS, label_colours(5) / 255)  # type: ignore[arg-type]
