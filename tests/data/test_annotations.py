"""Labelme's and COCO's annotations: outlines and run lengths to pixels, names to classes."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from atrous.data import list_splits, open_dataset
from atrous.data.checking import check_dataset
from atrous.data.shapes import decode_runs, fill_polygon, fill_runs
from atrous.errors import DataError
from data_sets import folder, photo, stripes

corners = st.lists(st.tuples(st.floats(-3, 15), st.floats(-3, 12)), min_size=3, max_size=8)


def inside(x, y, points):
    """Whether a ray to the right crosses the outline an odd number of times."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        if (y0 <= y) != (y1 <= y):
            crossings += x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x
    return crossings % 2 == 1


@given(points=corners)
@settings(max_examples=100, deadline=None)
def test_a_polygon_has_the_pixels_whose_centres_it_holds(points):
    filled = fill_polygon(np.array(points), (9, 12))
    # Half a pixel's millionth off the centre, where rounding may decide either way.
    for row, column in np.ndindex(9, 12):
        around = {inside(column + 0.5 + d, row + 0.5, points) for d in (-1e-6, 0, 1e-6)}
        assert filled[row, column] in around


def test_a_rectangle_from_edge_to_edge_is_not_a_pixel_wider():
    filled = fill_polygon(np.array([(2.0, 1.0), (5.0, 1.0), (5.0, 3.0), (2.0, 3.0)]), (6, 8))
    assert filled.sum() == 6
    assert filled[1:3, 2:5].all()


def encode_runs(counts):
    """COCO's text form, by its description."""
    text = ""
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            bits, value = value & 0x1F, value >> 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr((bits | 0x20 if more else bits) + 48)
            if not more:
                break
    return text


@given(counts=st.lists(st.integers(0, 100_000), min_size=1, max_size=30))
def test_run_lengths_come_back_from_their_text(counts):
    assert decode_runs(encode_runs(counts)) == counts


def test_run_lengths_by_hand():
    """ "Q" is 33: the bit that says more follows, and 1; "1" is 1 · 32. Runs go down the columns."""
    assert decode_runs("Q1") == [33]
    assert decode_runs("052") == [0, 5, 2]
    assert fill_runs([1, 2, 3], (3, 2)).T.reshape(-1).tolist() == [False, True, True, False, False, False]
    with pytest.raises(ValueError, match="run lengths of 6 pixels for a picture of 8"):
        fill_runs([1, 2, 3], (2, 4))
    with pytest.raises(ValueError, match="in the middle of a number"):
        decode_runs("Q")


# What pycocotools 2.0 wrote of a 40×60 mask: rows 5 to 32 and columns 4 to 49, without rows 10 to 19 of columns 30 to
# 39, and the last pixel.
PYCOCOTOOLS = "U5l0<" + 50 * "0" + "YON8" + 9 * "2HN8" + "2?" + 18 * "0" + "Z<UO"


def test_run_lengths_that_pycocotools_wrote():
    expected = np.zeros((40, 60), bool)
    expected[5:33, 4:50] = True
    expected[10:20, 30:40] = False
    expected[39, 59] = True
    np.testing.assert_array_equal(fill_runs(decode_runs(PYCOCOTOOLS), (40, 60)), expected)


def box(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def labelme(path, *shapes):
    shapes = [{"label": label, "points": points, "shape_type": kind} for label, points, kind in shapes]
    path.write_text(json.dumps({"imageHeight": 6, "imageWidth": 8, "imagePath": "x", "shapes": shapes}))


def test_labelmes_outlines_beside_the_photos(tmp_path):
    for index, name in enumerate(("one", "two")):
        photo(tmp_path / f"{name}.jpg", index)
    labelme(
        tmp_path / "one.json",
        ("tree", box(0, 0, 8, 6), "polygon"),
        ("car", [[2, 1], [4, 6]], "rectangle"),
        ("__ignore__", box(6, 0, 8, 6), None),
        ("car", [[1, 1]], "point"),
    )
    labelme(tmp_path / "two.json", ("bus", [[4, 3], [4, 5]], "circle"))
    dataset = open_dataset(tmp_path, "all")
    assert dataset.layout == "a folder with Labelme's annotations"
    assert dataset.classes.names == ("background", "bus", "car", "tree")
    expected = np.full((6, 8), 3)
    expected[1:, 2:4] = 2
    expected[:, 6:] = 255
    np.testing.assert_array_equal(dataset.mask(0), expected)
    circle = dataset.mask(1)
    assert circle[3, 4] == 1
    assert circle[0, 0] == 0
    assert abs((circle == 1).sum() - np.pi * 4) < 2  # a radius of 2


def test_labelmes_classes_may_be_given_and_then_bind(tmp_path):
    root = folder(tmp_path, {"train": 1}, classes=["car", "tree"])
    (root / "masks" / "train" / "0.png").unlink()
    labelme(root / "masks" / "train" / "0.json", ("tree", box(0, 0, 4, 6), "polygon"))
    np.testing.assert_array_equal(open_dataset(root, "train").mask(0), stripes(1, 255))  # no background: void
    labelme(root / "masks" / "train" / "0.json", ("tram", box(0, 0, 4, 6), "polygon"))
    with pytest.raises(DataError, match=r"0\.json: names 'tram', which is none of the classes: car, tree"):
        open_dataset(root, "train").mask(0)


def test_labelmes_patches(tmp_path):
    photo(tmp_path / "one.jpg")
    png = io.BytesIO()
    Image.fromarray(np.array([[1, 0], [1, 1]], bool)).save(png, "PNG")
    shape = {"label": "x", "points": [[5, 2], [7, 4]], "shape_type": "mask"}
    shape["mask"] = base64.b64encode(png.getvalue()).decode()
    values = {"imageHeight": 6, "imageWidth": 8, "shapes": [shape]}
    (tmp_path / "one.json").write_text(json.dumps(values))
    labels = open_dataset(tmp_path, "all").mask(0)
    assert labels.sum() == 3
    assert labels[2:4, 5:7].tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("place", ["root", "images", "masks"])
def test_labelmes_first_photo_may_lack_annotations(tmp_path, place):
    photos = tmp_path if place == "root" else tmp_path / "images"
    for index, name in enumerate(("a", "b", "c")):
        photo(photos / f"{name}.jpg", index)
    annotations = tmp_path / "masks" if place == "masks" else photos
    annotations.mkdir(exist_ok=True)
    labelme(annotations / "c.json", ("tree", box(0, 0, 4, 6), "polygon"))
    report = check_dataset(tmp_path)
    assert report.layout == "a folder with Labelme's annotations"
    missing = next(finding for finding in report.findings if finding.kind == "missing-mask")
    assert [path.name for path in missing.files] == ["a.jpg", "b.jpg"]
    assert str(annotations / "a.json") in missing.what
    (annotations / "b.json").write_text("{")
    report = check_dataset(tmp_path)
    assert report.classes.names == ("background", "tree")
    broken = next(finding for finding in report.findings if finding.kind == "unreadable-mask")
    assert broken.files == (annotations / "b.json",)
    (annotations / "c.json").write_text("[]")
    with pytest.raises(DataError, match=r"b\.json: cannot be read as annotations"):
        check_dataset(tmp_path)


def test_a_split_without_annotations_is_what_the_others_are(tmp_path):
    for index, split in enumerate(("train", "val")):
        photo(tmp_path / "images" / split / "a.jpg", index)
    labelme(tmp_path / "images" / "val" / "a.json", ("tree", box(0, 0, 4, 6), "polygon"))
    found = next(finding for finding in check_dataset(tmp_path).findings if finding.kind == "missing-mask")
    assert str(tmp_path / "images" / "train" / "a.json") in found.what


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"label": "x", "shape_type": "polygon"}, "its shape 1 has no 'points'"),
        ({"label": "x", "points": [], "shape_type": "polygon"}, "its shape 1 cannot be drawn .it has no points"),
        ({"label": "x", "points": [[1, float("nan")], [5, 5], [7, 1]]}, "its points are no numbers"),
        ({"points": [[1, 1], [5, 5]]}, "its shape 1 has no label"),
        ("x", "its shape 1 has no label"),
    ],
)
def test_labelmes_mistakes_are_named(tmp_path, shape, said):
    root = folder(tmp_path, {"train": 1}, classes=["background", "x"])
    path = root / "masks" / "train" / "0.json"
    (root / "masks" / "train" / "0.png").unlink()
    path.write_text(json.dumps({"imageHeight": 6, "imageWidth": 8, "shapes": [shape]}))
    with pytest.raises(DataError, match=rf"0\.json: .*{said}") as error:
        open_dataset(root, "train").mask(0)
    assert "\n" not in str(error.value)


def test_labelmes_rectangles_have_two_corners_or_four(tmp_path):
    photo(tmp_path / "one.jpg")
    labelme(tmp_path / "one.json", ("x", box(2, 1, 5, 3), "rectangle"))
    labels = open_dataset(tmp_path, "all").mask(0)
    assert labels.sum() == 6
    assert labels[1:3, 2:5].all()


def coco(path, **changes):
    runs = {"counts": [0, 6, 42], "size": [6, 8]}  # the first column
    text = {"counts": encode_runs([42, 6]), "size": [6, 8]}  # the last
    flat = [value for point in box(2, 0, 6, 6) for value in point]
    inner = [value for point in box(3, 2, 5, 4) for value in point]
    values = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 6, "width": 8}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"image_id": 7, "category_id": 18, "segmentation": [inner], "area": 4, "iscrowd": 0},
            {"image_id": 7, "category_id": 3, "segmentation": [flat], "area": 24, "iscrowd": 0},
            {"image_id": 7, "category_id": 18, "segmentation": runs, "area": 6, "iscrowd": 1},
            {"image_id": 7, "category_id": 3, "segmentation": text, "area": 6, "iscrowd": 0},
            {"image_id": 7, "category_id": 3, "segmentation": [], "area": 0, "iscrowd": 0},
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**values, **changes}))
    return values


EXPECTED = np.array([2, 0, 1, 1, 1, 1, 0, 1]) * np.ones((6, 1), int)  # the dog lies on the car, though listed before
EXPECTED[2:4, 3:5] = 2


@pytest.mark.parametrize(
    ("annotations", "photos", "split"),
    [
        ("annotations/instances_train2017.json", "train2017/a.jpg", "train"),
        ("annotations/instances_val2017.json", "images/val2017/a.jpg", "val"),
        ("train/_annotations.coco.json", "train/a.jpg", "train"),
        ("annotations.json", "images/a.jpg", "all"),
        ("val.json", "a.jpg", "val"),
    ],
)
def test_cocos_objects_where_its_users_keep_them(tmp_path, annotations, photos, split):
    photo(tmp_path / photos)
    coco(tmp_path / annotations)
    assert list_splits(tmp_path) == (split,)
    dataset = open_dataset(tmp_path, split)
    assert dataset.layout == "COCO's annotations"
    assert dataset.classes.names == ("background", "car", "dog")  # in the order of the ids
    image, labels = dataset[0]
    assert image.shape == (6, 8, 3)
    np.testing.assert_array_equal(labels, EXPECTED)


def test_cocos_photos_of_another_size_are_named(tmp_path):
    images = [{"id": index, "file_name": f"{name}.jpg", "height": 6, "width": 8} for index, name in enumerate("abc")]
    for index, name in enumerate("abc"):
        photo(tmp_path / "train" / f"{name}.jpg", index, (6, 8) if name != "b" else (8, 6))
    coco(tmp_path / "annotations" / "train.json", images=images)
    found = next(finding for finding in check_dataset(tmp_path).findings if finding.kind == "other-size")
    assert found.files == (tmp_path / "train" / "b.jpg",)
    with pytest.raises(DataError, match=r"train\.json: its mask of .*b\.jpg is 8×6, its photo 6×8"):
        open_dataset(tmp_path, "train")[1]


def test_cocos_categories_of_one_name_are_one_class(tmp_path):
    photo(tmp_path / "train" / "a.jpg")
    coco(tmp_path / "annotations" / "train.json", categories=[{"id": 3, "name": "dog"}, {"id": 18, "name": "dog"}])
    dataset = open_dataset(tmp_path, "train")
    assert dataset.classes.names == ("background", "dog")
    np.testing.assert_array_equal(dataset.mask(0), EXPECTED > 0)


def test_annotations_have_no_classes_json_to_mend(tmp_path):
    photo(tmp_path / "train" / "a.jpg")
    coco(tmp_path / "annotations" / "train.json", annotations=[])
    found = next(finding for finding in check_dataset(tmp_path).findings if finding.kind == "absent-class")
    assert "classes.json" not in found.mend


def test_cocos_mistakes_are_named(tmp_path):
    photo(tmp_path / "train" / "a.jpg")
    path = tmp_path / "annotations" / "train.json"
    coco(path, categories=[{"id": 3, "name": "car"}])
    said = r"train\.json: what it says of a\.jpg cannot be drawn \(an object is of category 18; the categories are 3\)"
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path, "train").mask(0)
    for changes, said in (
        ({"categories": [{"id": 3}]}, "a category without 'name'"),
        ({"categories": ["x"]}, "'categories' holds 'x', which is no object"),
        ({"annotations": ["x"]}, "'annotations' holds 'x', which is no object"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}]}, "a photo or an object without 'height'"),
    ):
        coco(path, **changes)
        with pytest.raises(DataError, match=rf"train\.json: not COCO's annotations \({said}\)"):
            open_dataset(tmp_path, "train")
    nan = {"image_id": 7, "category_id": 3, "segmentation": [[0, 0, float("nan"), 1, 2, 2]]}
    coco(path, annotations=[nan])
    with pytest.raises(DataError, match=r"of a\.jpg cannot be drawn \(its points are no numbers"):
        open_dataset(tmp_path, "train").mask(0)
    coco(path, images=None)
    with pytest.raises(DataError, match=r"train\.json: not COCO's annotations \(no list 'images'\)"):
        open_dataset(tmp_path, "train")
    path.write_text("{")
    with pytest.raises(DataError, match=r"train\.json: cannot be read as annotations"):
        open_dataset(tmp_path, "train")


def one_object(category, image, **values):
    outline = [value for point in box(0, 0, 8, 6) for value in point]
    return {"image_id": image, "category_id": category, "segmentation": [outline], "area": 48, **values}


def test_cocos_photos_in_folders_are_told_from_others_of_their_name(tmp_path):
    for place in ("1.jpg", "sub/1.jpg"):
        photo(tmp_path / "images" / place)
    names = ("1.jpg", "sub/1.jpg")
    images = [{"id": index, "file_name": name, "height": 6, "width": 8} for index, name in enumerate(names)]
    path = tmp_path / "annotations" / "train.json"
    coco(path, images=images, annotations=[one_object(3, 0), one_object(18, 1)])
    dataset = open_dataset(tmp_path, "train")
    found = {str(image.relative_to(tmp_path / "images")): dataset.mask(i) for i, image in enumerate(dataset.images)}
    assert {name: labels.max() for name, labels in found.items()} == {"1.jpg": 1, "sub/1.jpg": 2}
    (tmp_path / "images" / "sub" / "1.jpg").unlink()
    with pytest.raises(DataError, match=r"train\.json: names 1\.jpg and sub/1\.jpg, of which only .*1\.jpg is there"):
        open_dataset(tmp_path, "train")


def test_cocos_photos_may_lie_flat_though_the_file_speaks_of_folders(tmp_path):
    photo(tmp_path / "images" / "1.jpg")
    images = [{"id": 0, "file_name": "far/away/1.jpg", "height": 6, "width": 8}]
    coco(tmp_path / "annotations" / "train.json", images=images, annotations=[one_object(3, 0)])
    assert (open_dataset(tmp_path, "train").mask(0) == 1).all()


def test_cocos_small_objects_lie_over_large_ones_without_a_word_of_their_areas(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    values = coco(tmp_path / "annotations" / "train.json")
    for each in values["annotations"]:
        del each["area"]
    coco(tmp_path / "annotations" / "train.json", annotations=values["annotations"])
    np.testing.assert_array_equal(open_dataset(tmp_path, "train").mask(0), EXPECTED)


def test_more_classes_than_labels_are_refused(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    categories = [{"id": number, "name": f"thing {number}"} for number in range(1, 256)]
    path = tmp_path / "annotations" / "train.json"
    coco(path, categories=categories, annotations=[one_object(255, 7)])
    with pytest.raises(DataError, match=r"train\.json: has 256 classes; labels are 8 bits and 255 counts for none"):
        open_dataset(tmp_path, "train")
    coco(path, categories=categories[1:], annotations=[one_object(255, 7)])
    assert (open_dataset(tmp_path, "train").mask(0) == 254).all()


def test_one_photo_that_coco_writes_in_two_ways_is_one(tmp_path):
    photo(tmp_path / "images" / "1.jpg")
    images = [{"id": i, "file_name": name, "height": 6, "width": 8} for i, name in enumerate(("./1.jpg", "1.jpg"))]
    coco(tmp_path / "annotations" / "train.json", images=images, annotations=[one_object(3, 0), one_object(3, 1)])
    dataset = open_dataset(tmp_path, "train")
    assert len(dataset) == 1
    assert (dataset.mask(0) == 1).all()
