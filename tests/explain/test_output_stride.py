"""What coarser strides lose, counted on drawn labels and on a network."""

import numpy as np
import pytest

from atrous.errors import AtrousError
from atrous.explain import OutputStrides, output_strides
from atrous.explain.output_stride import WIDTHS, thickness


@pytest.mark.parametrize("width", [1, 4, 5, 8, 9, 20, 33, 64, 65, 80])
def test_a_bar_is_as_thick_as_it_was_drawn(width: int) -> None:
    labels = np.zeros((200, 300), dtype=np.uint8)
    labels[:, 100 : 100 + width] = 1
    expected = sum(width > limit for limit in WIDTHS)
    assert set(np.unique(thickness(labels)[labels == 1])) == {expected}
    assert (thickness(labels)[:, :20] == len(WIDTHS)).all()  # the border does not make the rest thin
    assert (thickness(np.ascontiguousarray(labels.T)) == thickness(labels).T).all()


def test_a_disc_on_a_pole_is_thick_where_the_disc_is() -> None:
    labels = np.zeros((120, 120), dtype=np.uint8)
    labels[60:, 58:61] = 2
    labels[30:60, 45:75] = 2
    found = thickness(labels)
    assert (found[30:60, 45:75] == 3).all()  # 30: from 17 to 32
    assert (found[70:, 58:61] == 0).all()


def drawn(*labels: np.ndarray) -> OutputStrides:
    strides = (8, 16, 32)[: len(labels)]
    picture = np.zeros((*labels[0].shape, 3), dtype=np.uint8)
    return OutputStrides(picture, strides, labels, ("a", "b"), ((0, 0, 0), (255, 0, 0)), thickness(labels[0]))


def test_kept_is_counted_within_each_thickness() -> None:
    fine = np.zeros((100, 200), dtype=np.uint8)
    fine[:, 40:43] = 1  # 300 pixels, 1 to 4 thick
    fine[:, 120:130] = 1  # 1000 pixels, 9 to 16 thick
    coarse = fine.copy()
    coarse[:60, 40:43] = 0
    coarse[:, 120] = 0
    found = drawn(fine, coarse)
    assert found.kept[0, [0, 2]].tolist() == [1, 1]
    assert found.kept[1, 0] == pytest.approx(0.4)
    assert found.kept[1, 2] == pytest.approx(0.9)
    assert np.isnan(found.kept[1, 1])
    assert found.numbers()["kept"][1][1] is None
    assert found.changed == [0, pytest.approx((180 + 100) / 20000)]


def test_each_stride_gives_the_labels_that_the_model_gives_at_it(small, photo) -> None:
    found = output_strides(small, photo, (32, 8, 16))
    assert found.strides == (8, 16, 32)
    assert small.model.output_stride == 16
    for stride, labels in zip(found.strides, found.labels, strict=True):
        small.model.set_output_stride(stride)
        assert (small(photo).labels == labels).all()
    assert found.changed[2] > 0


def test_the_model_is_left_at_its_stride_when_another_is_impossible(small, photo) -> None:
    with pytest.raises(AtrousError, match="output_stride=12"):
        output_strides(small, photo, (8, 12))
    assert small.model.output_stride == 16
    with pytest.raises(AtrousError, match="two or more"):
        output_strides(small, photo, (8, 8))
