"""Labelled folders: pairs in order, and each way of being wrong named with its file."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from atrous.data import list_splits, open_dataset
from atrous.errors import DataError
from data_sets import folder, mask, painted, photo, stripes


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
    folder = open_dataset(root, "val")
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
        (rgb_mask, r"masks.*one\.png: holds the colour \(0, 0, 0\), which is no class's"),
        (out_of_range, r"one\.png: holds the label 7; its classes allow 0 to 2 or 255"),
        (other_size, r"one\.png: is 6×5, its photo 6×4"),
        (broken_mask, r"one\.png: cannot be read as a mask"),
        (classes(palette=[[0, 0, 0]]), "3 classes and 1 palette colours"),
        (classes(ignore_index=1), "ignore_index 1 must lie behind the 3 classes"),
        (classes(palette=[[1, 0, 0], [0, 1, 0], [0, 0, 300]]), r"classes\.json: \[0, 0, 300\] is no colour"),
        (classes(palette=[[1, 0, 0], [0, 1, 0], [0, -1, 3]]), r"classes\.json: \[0, -1, 3\] is no colour"),
        (classes(palette=[[1, 0, 0], [0, 0.5, 0], [0, 0, 3]]), r"classes\.json: \[0, 0\.5, 0\] is no colour"),
        (classes(classes="x"), "classes.json"),
        (classes(classes=["a", "b", "a"]), "names a class twice"),
        (classes(void_colours=[[0, 1, 0]]), r"\(0, 1, 0\) is both a class's colour and one of void_colours"),
        (lambda root: (root / "classes.json").write_text("["), "not a list of classes"),
        (lambda root: [p.unlink() for p in (root / "images" / "val").iterdir()], "holds no images"),
    ],
)
def test_what_is_wrong_is_named(root, damage, message):
    damage(root)
    with pytest.raises(DataError, match=message) as error:
        list(open_dataset(root, "val"))
    assert "\n" not in str(error.value)


def test_missing_places_are_named(root):
    with pytest.raises(DataError, match="has no split 'test'; as a folder of images and masks it has val"):
        open_dataset(root, "test")
    with pytest.raises(DataError, match="no such directory"):
        open_dataset(root / "nowhere", "val")


def test_colours_mean_the_palettes_classes_and_void(tmp_path):
    root = folder(tmp_path, {"train": 1}, classes=None)
    colours = {0: (10, 0, 0), 1: (0, 20, 0), 2: (0, 0, 30), 255: (9, 9, 9)}
    (root / "classes.json").write_text(
        json.dumps({"classes": ["a", "b", "c"], "palette": [colours[i] for i in range(3)], "void_colours": [[9, 9, 9]]})
    )
    mask(root / "masks" / "train" / "0.png", painted(stripes(2, 1, 255, 0), colours))
    assert np.array_equal(open_dataset(root, "train").mask(0), stripes(2, 1, 255, 0))


def flat(root, *names):
    for index, name in enumerate(names):
        photo(root / "images" / f"{name}.jpg", index)
        mask(root / "masks" / f"{name}.png", index)
    return root


def test_lists_make_splits_of_a_flat_folder(tmp_path):
    root = flat(tmp_path, "a", "b", "c.d")
    assert list_splits(root) == ("all",)
    with pytest.raises(DataError, match=r"has no split 'train'; .* it has all: write train\.txt and val\.txt"):
        open_dataset(root, "train")
    (root / "val.txt").write_text("b\n")
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("images/c.d.jpg\n\na\n")
    assert list_splits(root) == ("train", "val")
    dataset = open_dataset(root, "train")
    assert [path.name for path in dataset.images] == ["c.d.jpg", "a.jpg"]  # the list's order
    assert dataset.mask(0).max() == 2
    (root / "val.txt").write_text("nobody\n")
    with pytest.raises(DataError, match=r"val\.txt: names nobody, which is not in"):
        open_dataset(root, "val")


def test_lists_name_photos_with_spaces_and_may_begin_with_a_mark(tmp_path):
    """Windows' editors begin a text with a byte order mark."""
    root = flat(tmp_path, "my photo 1", "b")
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b"]}), encoding="utf-8-sig")
    (root / "train.txt").write_text("images/my photo 1.jpg\n", encoding="utf-8-sig")
    (root / "val.txt").write_text("b.jpg masks/b.png\n", encoding="utf-8-sig")
    assert [path.name for path in open_dataset(root, "train").images] == ["my photo 1.jpg"]
    assert [path.name for path in open_dataset(root, "val").images] == ["b.jpg"]
    assert open_dataset(root, "val").classes.names == ("a", "b")


def test_without_classes_json_the_masks_of_all_splits_say_the_classes(tmp_path):
    root = folder(tmp_path, {"train": 2, "val": 3}, classes=None)
    assert open_dataset(root, "train").classes.names == ("class_0", "class_1", "class_2")  # 2 is in val alone
    mask(root / "masks" / "val" / "2.png", stripes(255, 1))
    assert open_dataset(root, "train").classes.names == ("class_0", "class_1")  # 255 is void


def test_without_classes_json_colours_are_classes(tmp_path):
    root = folder(tmp_path, {"train": 1, "val": 1}, classes=None)
    mask(root / "masks" / "train" / "0.png", painted(stripes(0, 1), {1: (0, 0, 255)}))
    mask(root / "masks" / "val" / "0.png", painted(stripes(1, 0), {1: (255, 0, 0)}))
    dataset = open_dataset(root, "val")
    assert dataset.classes.names == ("#000000", "#0000ff", "#ff0000")
    assert np.array_equal(dataset.mask(0), stripes(2, 0))
    mask(root / "masks" / "val" / "0.png", stripes(1, 0))
    with pytest.raises(DataError, match="masks of indices beside masks of colours"):
        open_dataset(root, "val")


def test_masks_may_be_called_a_little_longer_than_their_photos(tmp_path):
    root = flat(tmp_path, "x", "x_mask")
    (root / "masks" / "x.png").rename(root / "masks" / "x_L.png")
    assert [path.name for path in open_dataset(root, "all").masks] == ["x_L.png", "x_mask.png"]


def test_sixteen_bit_and_black_and_white_masks_hold_indices(tmp_path):
    root = folder(tmp_path, {"train": 2})
    Image.fromarray(stripes(2, 0).astype(np.uint16)).save(root / "masks" / "train" / "0.png")
    Image.fromarray(stripes(1, 0).astype(bool)).save(root / "masks" / "train" / "1.png")
    dataset = open_dataset(root, "train")
    assert np.array_equal(dataset.mask(0), stripes(2, 0))
    assert np.array_equal(dataset.mask(1), stripes(1, 0))
    Image.fromarray(np.full((6, 8), 300, np.uint16)).save(root / "masks" / "train" / "0.png")
    with pytest.raises(DataError, match="holds the label 300; labels end at 255"):
        dataset.mask(0)


def test_a_data_set_goes_to_other_processes(tmp_path):
    """As the workers of a loader need it, where they are not forked."""
    root = folder(tmp_path, {"train": 2})
    dataset = open_dataset(root, "train")
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[1][1], dataset[1][1])
