"""Labelled folders: pairs in order, and each way of being wrong named with its file."""

import json

import numpy as np
import pytest
from PIL import Image

from atrous.data import SegmentationFolder
from atrous.errors import DataError


@pytest.fixture
def root(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").mkdir(parents=True)
    classes = {"classes": ["a", "b", "c"], "palette": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "ignore_index": 255}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    for index, name in enumerate(("two", "one")):
        Image.new("RGB", (6, 4), (index, 0, 0)).save(tmp_path / "images" / "val" / f"{name}.png")
        mask = Image.fromarray(np.array([[0, 1, 2, 255, 0, index]] * 4, np.uint8), "P")
        mask.putpalette([9] * 768)
        mask.save(tmp_path / "masks" / "val" / f"{name}.png")
    return tmp_path


def test_pairs_come_in_the_order_of_names_as_indices(root):
    folder = SegmentationFolder(root, "val")
    assert [path.stem for path in folder.images] == ["one", "two"]
    image, mask = folder[0]
    assert image[0, 0].tolist() == [1, 0, 0]
    assert mask[0].tolist() == [0, 1, 2, 255, 0, 1]  # indices, not the palette's colours


def no_mask(root):
    (root / "masks" / "val" / "one.png").unlink()


def rgb_mask(root):
    Image.new("RGB", (6, 4)).save(root / "masks" / "val" / "one.png")


def out_of_range(root):
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(root / "masks" / "val" / "one.png")


def other_size(root):
    Image.fromarray(np.zeros((5, 6), np.uint8)).save(root / "masks" / "val" / "one.png")


def broken_mask(root):
    (root / "masks" / "val" / "one.png").write_bytes(b"not a picture")


def classes(**changes):
    def edit(root):
        path = root / "classes.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_mask, r"one\.png: has no mask"),
        (rgb_mask, r"masks.*one\.png: a RGB picture; a mask is a PNG of class indices"),
        (out_of_range, r"one\.png: holds the label 7; classes\.json allows 0 to 2 or 255"),
        (other_size, r"one\.png: is 6×5, its photo 6×4"),
        (broken_mask, r"one\.png: cannot be read as a mask"),
        (classes(palette=[[0, 0, 0]]), "3 classes and 1 palette colours"),
        (classes(ignore_index=1), "ignore_index 1 must lie behind the 3 classes"),
        (classes(classes="x"), "classes.json"),
        (lambda root: (root / "classes.json").unlink(), "classes.json: missing"),
        (lambda root: (root / "classes.json").write_text("["), "not a list of classes"),
        (lambda root: [p.unlink() for p in (root / "images" / "val").iterdir()], "holds no images"),
    ],
)
def test_what_is_wrong_is_named(root, damage, message):
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        list(SegmentationFolder(root, "val"))
    assert "\n" not in str(error.value)


def test_missing_places_are_named(root):
    with pytest.raises(DataError, match="no such directory; a data set has"):
        SegmentationFolder(root, "test")
    with pytest.raises(DataError, match="no such directory"):
        SegmentationFolder(root / "nowhere", "val")
