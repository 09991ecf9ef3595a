"""What can be done with labels once they are there."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from atrous.data import read_image
from atrous.errors import AtrousError
from atrous.inference.segmentation import Failure, Segmentation

CLASSES = ("sky", "road", "car", "tree", "sign")
PALETTE = ((128, 128, 128), (128, 64, 128), (64, 0, 128), (128, 128, 0), (192, 128, 128))

Labels = NDArray[np.uint8]


def segmentation(labels: Labels, source: Path | None = None) -> Segmentation:
    photo = np.random.default_rng(1).integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    return Segmentation(photo, labels, CLASSES, PALETTE, source)


def blobs(height: int = 70, width: int = 90, seed: int = 0) -> Labels:
    """Labels with regions inside regions, thin lines and single pixels."""
    noise = np.random.default_rng(seed).random((height, width))
    smooth = cv2.GaussianBlur(noise, (9, 9), 2)
    ranks = smooth.ravel().argsort().argsort().reshape(smooth.shape)
    labels = (ranks * len(CLASSES) // smooth.size).astype(np.uint8)
    labels[noise > 0.97] = 2
    return labels


# Areas and scores


def test_areas_are_shares_of_the_pixels_largest_first() -> None:
    labels = np.zeros((10, 10), np.uint8)
    labels[:2] = 3
    labels[9, 9] = 1
    assert list(segmentation(labels).areas().items()) == [("sky", 0.79), ("tree", 0.2), ("road", 0.01)]


def test_areas_of_all_classes_sum_to_one() -> None:
    assert sum(segmentation(blobs()).areas().values()) == pytest.approx(1)


def test_scores_are_given_if_they_were_kept_and_else_the_mend_is() -> None:
    labels = blobs()
    with pytest.raises(AtrousError, match="scores=True"):
        segmentation(labels).scores()
    kept = np.full((len(CLASSES), *labels.shape), 0.2, np.float32)
    result = Segmentation(np.zeros((*labels.shape, 3), np.uint8), labels, CLASSES, PALETTE, None, kept)
    assert result.scores() is kept


def test_arrays_that_do_not_go_together_are_refused() -> None:
    labels = blobs()
    photo = np.zeros((*labels.shape, 3), np.uint8)
    for arguments in (
        (photo[1:], labels, CLASSES, PALETTE),
        (photo, labels.astype(np.int64), CLASSES, PALETTE),
        (photo, labels, CLASSES, PALETTE[1:]),
        (photo, labels, CLASSES, PALETTE, None, np.zeros((2, *labels.shape), np.float32)),
    ):
        with pytest.raises(AtrousError) as caught:
            Segmentation(*arguments)
        assert "\n" not in str(caught.value)


def test_a_failure_is_false_and_a_segmentation_true() -> None:
    failure = Failure("a.jpg", "a.jpg: is empty")
    assert not failure
    assert str(failure) == "a.jpg: is empty"
    assert segmentation(blobs())


# Masks and overlays


def test_a_saved_mask_is_read_as_indices_and_shown_in_colour(tmp_path: Path) -> None:
    labels = blobs()
    [path] = segmentation(labels).save(tmp_path / "mask.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.array_equal(np.asarray(image.convert("RGB")), np.array(PALETTE, np.uint8)[labels])
    by_opencv = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert np.array_equal(by_opencv[..., ::-1], np.array(PALETTE, np.uint8)[labels])
    content = path.read_bytes()
    assert content[24:26] == bytes((8, 3)), "8 bits a pixel, so that readers which do not unpack bits see indices"
    assert content[content.index(b"PLTE") - 4 : content.index(b"PLTE")] == (768).to_bytes(4, "big")


def test_the_overlay_is_the_photo_and_the_colours_in_equal_parts(tmp_path: Path) -> None:
    result = segmentation(blobs())
    expected = (result.image.astype(float) + np.array(PALETTE)[result.labels]) / 2
    assert np.abs(np.asarray(result.overlay()) - expected).max() <= 0.5
    assert np.array_equal(np.asarray(result.overlay(alpha=0)), result.image)
    [path] = result.save(tmp_path / "overlay.png", "overlay")
    assert np.array_equal(read_image(path), np.asarray(result.overlay()))


def test_a_jpeg_overlay_has_quality_92(tmp_path: Path) -> None:
    result = segmentation(blobs())
    [path] = result.save(tmp_path / "overlay.jpg", "overlay", alpha=0.3)
    result.overlay(0.3).save(tmp_path / "expected.jpg", quality=92)
    assert np.array_equal(read_image(path), read_image(tmp_path / "expected.jpg"))


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("new/photo.png", "mask", ["new/photo.png"]),
        ("new/photo.PNG", "mask", ["new/photo.PNG"]),
        ("new/photo.jpeg", "overlay", ["new/photo.jpeg"]),
        ("there", "both", ["there/holiday.png", "there/holiday_overlay.jpg"]),
        ("new/folder/", "both", ["new/folder/holiday.png", "new/folder/holiday_overlay.jpg"]),
        ("there", "mask", ["there/holiday.png"]),
        ("there", "overlay", ["there/holiday_overlay.jpg"]),
        ("new/stem", "both", ["new/stem.png", "new/stem_overlay.jpg"]),
        ("new/stem", "mask", ["new/stem.png"]),
        ("new/stem.v2", "both", ["new/stem.v2.png", "new/stem.v2_overlay.jpg"]),
        ("new/stem.png", "both", ["new/stem.png", "new/stem_overlay.jpg"]),
    ],
)
def test_files_are_named_as_documented(path: str, kind: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    result = segmentation(blobs(), source=Path("somewhere/holiday.jpg"))
    written = result.save(f"{tmp_path}/{path}", kind)  # type: ignore[arg-type]
    assert written == [tmp_path / name for name in expected]
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == sorted(written), "and nothing else is left"


def test_an_array_without_a_file_is_called_image(tmp_path: Path) -> None:
    assert segmentation(blobs()).save(tmp_path) == [tmp_path / "image.png"]


@pytest.mark.parametrize(
    ("name", "kind"), [("x.jpg", "mask"), ("x.webp", "mask"), ("x.gif", "mask"), ("x.bmp", "overlay"), ("x.png", "all")]
)
def test_what_would_lose_the_indices_or_is_not_known_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(AtrousError):
        segmentation(blobs()).save(tmp_path / name, kind)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_photo_itself_is_never_replaced(tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (90, 70)).save(photo)
    before = photo.read_bytes()
    result = segmentation(blobs(), source=photo)
    for path, kind in ((photo, "mask"), (tmp_path, "both"), (tmp_path / "x" / ".." / "photo.png", "overlay")):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(AtrousError, match="photo itself"):
            result.save(path, kind)  # type: ignore[arg-type]
    assert photo.read_bytes() == before


def test_a_mask_replaces_no_other_photo_but_any_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also masks of more pixels than Pillow opens by itself, as those of large photos are."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    result = segmentation(blobs())
    another = tmp_path / "another.png"
    Image.new("RGB", (90, 70)).save(another)
    with pytest.raises(AtrousError, match="perhaps another photo"):
        result.save(another)
    (tmp_path / "text.png").write_text("no image")
    for name in ("mask.png", "mask.png", "text.png"):
        [path] = result.save(tmp_path / name)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_an_existing_file_survives_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = segmentation(blobs())
    [path] = result.save(tmp_path / "mask.png")
    before = path.read_bytes()

    def fail(_: Image.Image, file: object, *__: object, **___: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(AtrousError, match="No space left on device") as caught:
        result.save(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AtrousError, match="cannot be written") as caught:
        segmentation(blobs()).save(tmp_path / "file" / "mask.png")
    assert "\n" not in str(caught.value)


# Polygons


def fill(rings: list[list[list[int]]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose centres lie inside by the even-odd rule: for each, the upright edges to its left are counted."""
    crossings = np.zeros(shape, np.int64)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
            assert x0 == x1 or y0 == y1
            if x0 == x1:
                crossings[min(y0, y1) : max(y0, y1), x0:] += 1
    return crossings % 2 == 1


def signed_area(ring: list[list[int]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def from_geojson(collection: dict, shape: tuple[int, int]) -> Labels:
    labels = np.full(shape, 255, np.uint8)
    for feature in collection["features"]:
        rings = feature["geometry"]["coordinates"]
        for index, ring in enumerate(rings):
            assert ring[0] == ring[-1], "rings are closed"
            corners = {tuple(corner) for corner in ring}
            assert len(corners) == len(ring) - 1, "and meet themselves nowhere else"
            assert (signed_area(ring[:-1]) > 0) == (index == 0), "holes run the other way"
        inside = fill([ring[:-1] for ring in rings], shape)
        properties = feature["properties"]
        assert inside.sum() == properties["area"] == sum(signed_area(ring[:-1]) for ring in rings)
        assert (labels[inside] == 255).all(), "no two polygons overlap"
        labels[inside] = properties["class_id"]
        assert CLASSES[properties["class_id"]] == properties["class"]
    return labels


def from_coco(data: dict) -> Labels:
    [image] = data["images"]
    shape = (image["height"], image["width"])
    labels = np.full(shape, 255, np.uint8)
    for annotation in data["annotations"]:
        inside = np.zeros(shape, bool)
        for flat in annotation["segmentation"]:
            part = fill([np.reshape(flat, (-1, 2)).tolist()], shape)
            assert not (inside & part).any()
            inside |= part
        assert inside.sum() == annotation["area"]
        ys, xs = np.nonzero(inside)
        assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert (labels[inside] == 255).all()
        labels[inside] = annotation["category_id"]
    return labels


def check_both(labels: Labels) -> None:
    result = segmentation(labels)
    assert np.array_equal(from_coco(json.loads(json.dumps(result.polygons("coco")))), labels)
    geojson = json.loads(json.dumps(result.polygons("geojson")))
    assert np.array_equal(from_geojson(geojson, labels.shape), labels)


@pytest.mark.parametrize("seed", range(3))
def test_polygons_give_the_labels_back_exactly(seed: int) -> None:
    check_both(blobs(seed=seed))


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
def test_polygons_of_any_labels_give_them_back_exactly(labels: Labels) -> None:
    check_both(labels)


def test_noise_gives_itself_back() -> None:
    check_both(np.random.default_rng(3).integers(0, 2, (40, 50), dtype=np.uint8))


def test_a_ring_has_corners_only_and_follows_the_pixels_edges() -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:5, 2:7] = 1
    labels[2:4, 3:5] = 2
    sky, road, car = (one["geometry"]["coordinates"] for one in segmentation(labels).polygons("geojson")["features"])
    assert sky[0] == [[0, 0], [8, 0], [8, 6], [0, 6], [0, 0]]
    assert road[0] == [[2, 1], [7, 1], [7, 5], [2, 5], [2, 1]]
    assert car == [[[3, 2], [5, 2], [5, 4], [3, 4], [3, 2]]]
    assert [sorted(ring[:-1]) for ring in sky[1:]] == [sorted(road[0][:-1])]
    assert [sorted(ring[:-1]) for ring in road[1:]] == [sorted(car[0][:-1])]


def test_pixels_that_touch_at_a_corner_are_regions_of_their_own() -> None:
    labels = np.eye(4, dtype=np.uint8)
    features = segmentation(labels).polygons("geojson")["features"]
    assert sum(feature["properties"]["class"] == "road" for feature in features) == 4
    assert sum(feature["properties"]["class"] == "sky" for feature in features) == 2


def test_a_ring_around_pixels_that_pinch_it_is_two_rings() -> None:
    # The region closes around a hole that touches the outside at a corner only.
    labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]], np.uint8)
    features = segmentation(labels).polygons("geojson")["features"]
    [road] = [feature for feature in features if feature["properties"]["class"] == "road"]
    assert len(road["geometry"]["coordinates"]) == 2
    check_both(labels)


def test_coco_cuts_regions_with_holes_into_parts_without() -> None:
    labels = np.zeros((30, 40), np.uint8)
    for top, left in ((2, 3), (2, 20), (15, 3), (15, 30), (25, 12)):
        labels[top : top + 3, left : left + 4] = 1
    data = segmentation(labels).polygons("coco")
    sky = [annotation for annotation in data["annotations"] if annotation["category_id"] == 0]
    assert len(sky) == 1
    assert 2 <= len(sky[0]["segmentation"]) <= 6
    assert sky[0]["iscrowd"] == 0
    assert np.array_equal(from_coco(data), labels)
    assert [category["name"] for category in data["categories"]] == list(CLASSES)


def test_small_regions_are_left_out_on_request() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[3, 3] = 1
    labels[8:11, 8:11] = 1
    result = segmentation(labels)
    areas = [one["area"] for one in result.polygons("coco", min_area=9)["annotations"]]
    assert areas == [390, 9]
    areas = [one["properties"]["area"] for one in result.polygons("geojson", min_area=10)["features"]]
    assert areas == [390]


def test_other_formats_are_refused() -> None:
    with pytest.raises(AtrousError, match="coco or geojson"):
        segmentation(blobs()).polygons("svg")  # type: ignore[arg-type]
