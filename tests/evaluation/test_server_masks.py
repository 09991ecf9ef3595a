"""What the test servers are sent."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.classes import known_classes
from atrous.data import SegmentationDataset
from atrous.errors import AtrousError
from atrous.evaluation.server_masks import mask_writer
from atrous.inference import Segmentation


def named(*photos: str) -> SegmentationDataset:
    """A data set of photos of these names."""
    pairs = [(Path("data/images") / photo, Path("data/masks") / photo) for photo in photos]
    return SegmentationDataset(Path("data"), "val", "a folder", None, pairs, None)


def written(folder: Path, format: str, classes: tuple[str, ...], labels: np.ndarray) -> Image.Image:
    photo, palette = np.zeros((*labels.shape, 3), np.uint8), tuple((i, i, i) for i in range(len(classes)))
    mask_writer(folder, format, classes, named("a.jpg"))(
        Segmentation(photo, labels, classes, palette, Path("dir/frankfurt_0_1.jpg"))
    )
    assert [path.name for path in folder.iterdir()] == ["frankfurt_0_1.png"]
    return Image.open(folder / "frankfurt_0_1.png")


def test_cityscapes_ids(tmp_path):
    """Pairs from cityscapesScripts' labels.py."""
    classes, _ = known_classes("cityscapes")
    labels = np.arange(19, dtype=np.uint8)[None]
    ids = dict(zip(classes, np.asarray(written(tmp_path, "cityscapes", classes, labels))[0], strict=True))
    assert {
        "road": 7,
        "sidewalk": 8,
        "pole": 17,
        "sky": 23,
        "car": 26,
        "train": 31,
        "bicycle": 33,
    }.items() <= ids.items()
    assert len(set(ids.values())) == 19


def test_the_model_s_order_of_classes_does_not_matter(tmp_path):
    classes = tuple(reversed(known_classes("cityscapes")[0]))
    image = written(tmp_path, "cityscapes", classes, np.array([[0, 18]], np.uint8))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[33, 7]]


@pytest.mark.parametrize(("name", "first"), [("ade20k", 1), ("ade20k_background", 0)])
def test_ade20k_counts_from_one(tmp_path, name, first):
    classes, _ = known_classes(name)
    labels = np.array([[0, 1, len(classes) - 1]], np.uint8)
    assert np.asarray(written(tmp_path, "ade20k", classes, labels)).tolist() == [[first, first + 1, 150]]


def test_labels_are_the_indices_in_the_palette(tmp_path):
    image = written(tmp_path, "labels", ("a", "b"), np.array([[0, 1]], np.uint8))
    assert image.mode == "P"
    assert np.asarray(image).tolist() == [[0, 1]]


def test_other_classes_and_formats_are_refused(tmp_path):
    with pytest.raises(AtrousError, match="'lawn' is none of cityscapes's classes"):
        mask_writer(tmp_path, "cityscapes", ("road", "lawn"), named("a.jpg"))
    with pytest.raises(AtrousError, match="give one of labels, cityscapes, ade20k"):
        mask_writer(tmp_path, "kitti", ("road",), named("a.jpg"))


def test_nothing_is_written_over(tmp_path):
    with pytest.raises(AtrousError, match=r"a\.png would be written for 2 photos"):
        mask_writer(tmp_path, "labels", ("a",), named("one/a.jpg", "two/a.jpg", "b.jpg"))
    with pytest.raises(AtrousError, match="holds files of the data set"):
        mask_writer("data/masks", "labels", ("a",), named("a.jpg"))
