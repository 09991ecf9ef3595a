"""The doctor: each illness is found and named, a sound data set is left alone, and what can be mended is."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from atrous.data import open_dataset
from atrous.data.checking import check_dataset, duplicates, mend_dataset
from atrous.data.checking.duplicates import find_duplicates
from atrous.errors import AtrousError, DataError
from data_sets import folder, mask, painted, photo, stripes


@pytest.fixture
def root(tmp_path):
    return folder(tmp_path / "set", {"train": 4, "val": 3})


def kinds(report, *severities):
    return {finding.kind for finding in report.findings if not severities or finding.severity in severities}


def finding(report, kind):
    return next(finding for finding in report.findings if finding.kind == kind)


def test_a_sound_data_set_is_sound_and_counted(root):
    report = check_dataset(root)
    assert report.sound
    assert report.findings == ()
    train = report.splits["train"]
    assert train.photos == 4
    assert train.sizes == {(6, 8): 4}
    # Photo i is 0 in its left half and i % 3 in its right one.
    assert train.pixels.tolist() == [4 * 24 + 24 * 2, 24, 24]
    assert train.present.tolist() == [4, 1, 1]
    assert report.splits["val"].ignored_share == 0
    written = report.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert written["splits"]["val"]["pixels"] == {"a": 72 + 24, "b": 24, "c": 24}


def masks(root, change):
    for path in (root / "masks").rglob("*.png"):
        change(path)


def rewrite(convert):
    """A damage that does the same to every mask."""

    def damage(root):
        masks(root, lambda path: Image.fromarray(convert(np.array(Image.open(path)))).save(path))

    return damage


def no_mask(root):
    (root / "masks" / "train" / "0.png").unlink()


def no_photo(root):
    (root / "images" / "train" / "0.png").unlink()


def broken_photo(root):
    (root / "images" / "val" / "1.png").write_bytes(b"nothing")


def broken_mask(root):
    (root / "masks" / "val" / "1.png").write_bytes(b"nothing")


def half_size(root):
    mask(root / "masks" / "val" / "1.png", np.ones((3, 4)))


def other_proportions(root):
    mask(root / "masks" / "val" / "1.png", np.ones((6, 4)))


def on_its_side(root):
    path = root / "images" / "val" / "1.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


def copied(root):
    Image.open(root / "images" / "train" / "2.png").resize((16, 12), 0).save(root / "images" / "val" / "0.png")


def twice(root):
    (root / "images" / "train" / "3.png").write_bytes((root / "images" / "train" / "1.png").read_bytes())


def two_suffixes(root):
    photo(root / "images" / "val" / "1.jpg", 77)


def grey_indices(root):
    """Indices in RGB, in a palette where (1, 1, 1) is no class."""
    rewrite(lambda labels: np.repeat(labels[..., None], 3, 2))(root)


def unknown_colour(root):
    mask(root / "masks" / "val" / "1.png", painted(stripes(0, 1), {0: (128, 0, 0), 1: (9, 9, 9)}))


def doubled(root):
    """Photos and masks made larger, the masks with interpolation."""
    for path in (root / "images").rglob("*.png"):
        Image.open(path).resize((32, 24)).save(path)
    rewrite(lambda labels: cv2.resize(labels * 2, (32, 24), interpolation=cv2.INTER_LINEAR))(root)
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c", "d", "e"]}))


def no_photos(root):
    for path in (root / "images" / "val").iterdir():
        path.unlink()


def one_class(root):
    rewrite(lambda labels: labels * 0)(root)


def one_name(root):
    one_class(root)
    (root / "classes.json").write_text(json.dumps({"classes": ["a"]}))


def val_void(root):
    for path in (root / "masks" / "val").iterdir():
        mask(path, 255)


def only_void(root):
    rewrite(lambda labels: np.where(labels == 0, 255, labels).astype(np.uint8))(root)


@pytest.mark.parametrize(
    ("damage", "severity", "kind", "says"),
    [
        (no_mask, "wrong", "missing-mask", "0.png is missing"),
        (no_photo, "doubtful", "missing-photo", "masks without a photo"),
        (broken_photo, "wrong", "unreadable-photo", "is not an image that can be read"),
        (broken_mask, "wrong", "unreadable-mask", "cannot be read as a mask"),
        (half_size, "wrong", "other-size", "4×3, its photo 8×6"),
        (on_its_side, "wrong", "turned-mask", "8×6, its photo 6×8"),
        (copied, "wrong", "in-two-splits", "2.png of train is 0.png of val"),
        (twice, "doubtful", "twice-in-a-split", "1.png of train is 3.png of train"),
        (two_suffixes, "wrong", "one-mask-for-two", "the same mask (1"),
        (grey_indices, "wrong", "indices-as-colours", "stored in RGB"),
        (unknown_colour, "wrong", "unknown-colours", "the colour (9, 9, 9) means nothing"),
        (rewrite(lambda m: (m > 0).astype(np.uint8) * 255), "wrong", "black-and-white", "0 and 255 alone"),
        (rewrite(lambda m: m + 1), "wrong", "labels-beyond", "labels that no class has (3); there are 3"),
        (rewrite(lambda m: m * 100), "wrong", "labels-beyond", "(100, 200)"),
        (doubled, "wrong", "resampled", "of its edges have a value between"),
        (no_photos, "wrong", "empty-split", "no photos: val"),
        (one_class, "wrong", "one-class", "a single class, a"),
        (one_name, "wrong", "one-class", "a single class, a"),
        (val_void, "wrong", "only-void", "no pixel of val counts"),
        (only_void, "doubtful", "much-ignored", "of the pixels of train do not count"),
        (only_void, "doubtful", "absent-class", "classes that no mask holds: a"),
    ],
)
def test_each_illness_is_named(root, damage, severity, kind, says):
    damage(root)
    report = check_dataset(root)
    found = finding(report, kind)
    assert found.severity == severity
    assert says in found.what
    assert "\n" not in found.what + found.mend
    assert found.mend
    assert report.sound == (severity != "wrong")


def test_thin_classes_are_not_taken_for_interpolation(tmp_path):
    """Cells of 2 in an outline of 1 on 0."""
    root = folder(tmp_path / "set", {"train": 1})
    cell = cv2.circle(np.zeros((60, 80), np.uint8), (40, 30), 20, 2, -1)
    labels = np.where((cell == 2) & (cv2.erode(cell, np.ones((3, 3), np.uint8)) == 0), 1, cell).astype(np.uint8)
    photo(root / "images" / "train" / "0.png", 0, labels.shape)
    mask(root / "masks" / "train" / "0.png", labels)
    report = check_dataset(root)
    assert report.sound
    assert finding(report, "thin-classes").severity == "doubtful"
    assert mend_dataset(report, tmp_path / "out") == []
    np.testing.assert_array_equal(open_dataset(tmp_path / "out", "train").mask(0), labels)
    larger = cv2.resize(cell * 2, (160, 120), interpolation=cv2.INTER_LINEAR)
    photo(root / "images" / "train" / "0.png", 0, larger.shape)
    mask(root / "masks" / "train" / "0.png", larger)
    assert "resampled" in kinds(check_dataset(root), "wrong")


def test_smaller_masks_of_many_classes_are_taken_for_interpolated(tmp_path):
    """Each label that comes to lie between two others has areas of its own elsewhere."""
    root = folder(tmp_path, {"train": 1}, classes=[str(index) for index in range(9)])
    blocks = np.random.default_rng(0).integers(0, 9, (12, 16), dtype=np.uint8)
    labels = np.roll(cv2.resize(blocks, (320, 240), interpolation=cv2.INTER_NEAREST), (1, 1), (0, 1))
    photo(root / "images" / "train" / "0.png", 0, (120, 160))
    path = root / "masks" / "train" / "0.png"
    mask(path, cv2.resize(labels, (160, 120), interpolation=cv2.INTER_NEAREST))
    assert check_dataset(root).sound
    mask(path, cv2.resize(labels, (160, 120), interpolation=cv2.INTER_AREA))
    assert "resampled" in kinds(check_dataset(root), "wrong")


def test_an_empty_copy_is_not_written(root, tmp_path):
    for path in (root / "masks").rglob("*.png"):
        path.unlink()
    with pytest.raises(AtrousError, match=r"out: not written, as every photo would be left out; .*it has no mask"):
        mend_dataset(check_dataset(root), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("classes", [3, 21])
def test_noise_is_not_taken_for_blurred_colours(tmp_path, classes):
    root = folder(tmp_path, {"train": 1}, classes=[str(index) for index in range(classes)])
    photo(root / "images" / "train" / "0.png", 0, (60, 80))
    photo(root / "masks" / "train" / "0.png", 1, (60, 80))
    assert kinds(check_dataset(root), "wrong") == {"unknown-colours"}


def test_photos_and_masks_beyond_pillows_limit_are_looked_at(root, monkeypatch):
    on_its_side(root)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    report = check_dataset(root)
    assert kinds(report) == {"turned-mask"}
    assert report.splits["val"].pixels.sum() == 3 * 48


def test_photos_that_pillow_cannot_open_are_looked_at(root):
    """OpenCV reads TIFFs of floats in RGB, and so does training."""
    path = root / "images" / "val" / "1.tiff"
    image = np.random.default_rng(5).random((6, 8, 3), np.float32)
    cv2.imwrite(str(path), image)
    path.with_suffix(".png").unlink()
    assert len(open_dataset(root, "val")[1]) == 2
    assert check_dataset(root).findings == ()


@pytest.mark.parametrize("label", [-1, 256])
def test_labels_that_do_not_fit_are_named_and_never_wrapped(root, tmp_path, label):
    path = root / "masks" / "val" / "1.png"
    path.unlink()
    values = stripes(0, 1).astype(np.int32)
    values[0, 0] = label
    Image.fromarray(values).save(path.with_suffix(".tif"))
    found = finding(check_dataset(root), "labels-beyond")
    assert [file.name for file in found.files] == ["1.tif"]
    assert "below 0 or more than 255" in found.what
    with pytest.raises(DataError, match=rf"1\.tif: holds the label {label}; labels"):
        open_dataset(root, "val").mask(1)
    left_out = mend_dataset(check_dataset(root), tmp_path / "out")
    assert len(left_out) == 1
    assert f"holds the label {label}" in left_out[0]


def test_two_classes_of_one_colour(root):
    """Wrong where masks are of colours; masks of indices tell them apart."""
    palette = [[0, 0, 0], [9, 9, 9], [9, 9, 9]]
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "palette": palette}))
    assert finding(check_dataset(root), "same-colour").severity == "doubtful"
    mask(root / "masks" / "val" / "1.png", painted(stripes(0, 1), {1: (9, 9, 9)}))
    found = finding(check_dataset(root), "shared-colour")
    assert found.severity == "wrong"
    assert "b and c are both (9, 9, 9)" in found.what
    with pytest.raises(DataError, match=r"1\.png: is of colours, and b and c have the same"):
        open_dataset(root, "val").mask(1)


def test_what_counts_from_one_is_told_from_a_missing_class(root):
    rewrite(lambda m: m + 1)(root)
    assert "subtract 1" in finding(check_dataset(root), "labels-beyond").mend
    mask(root / "masks" / "val" / "0.png", 0)
    found = finding(check_dataset(root), "labels-beyond")
    assert "either a class is missing" in found.mend
    assert not found.mechanical


def test_a_class_that_is_judged_and_never_learnt(root):
    for index in range(4):
        mask(root / "masks" / "train" / f"{index}.png", stripes(0, 1))
    assert finding(check_dataset(root), "never-learnt").what.endswith("does not: c")


def test_rare_classes_are_known(tmp_path):
    root = folder(tmp_path, {"train": 1})
    photo(root / "images" / "train" / "0.png", size=(60, 80))
    labels = np.zeros((60, 80), np.uint8)
    labels[0, :9], labels[1:30] = 2, 1
    mask(root / "masks" / "train" / "0.png", labels)
    assert finding(check_dataset(root), "imbalance").what.endswith("pixels: c")


def test_a_photo_that_two_lists_name_is_found_and_trainval_is_no_leak(tmp_path):
    for index in range(4):
        photo(tmp_path / "images" / f"{index}.png", index)
        mask(tmp_path / "masks" / f"{index}.png", stripes(0, 1))
    for split, names in {"train": "0 1", "val": "2 3", "trainval": "0 1 2 3"}.items():
        (tmp_path / f"{split}.txt").write_text(names.replace(" ", "\n"))
    seen = []
    assert kinds(check_dataset(tmp_path, lambda *done: seen.append(done))) == {"no-classes"}
    assert seen[-1] == (4, 4)
    (tmp_path / "val.txt").write_text("2\n1\n")
    assert "1.png of train is 1.png of val" in finding(check_dataset(tmp_path), "in-two-splits").what


def test_a_flat_folder_is_told_that_it_has_no_splits(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a.png", stripes(0, 1))
    assert kinds(check_dataset(tmp_path)) == {"no-splits", "no-classes"}


def test_sparse_objects_with_void_outlines_are_not_black_and_white(root):
    """Background and void make up nearly all of such masks, but not all."""
    rewrite(lambda m: np.where(m == 0, 0, np.where(np.arange(8) < 7, 255, m)).astype(np.uint8))(root)
    assert "black-and-white" not in kinds(check_dataset(root))


@pytest.mark.parametrize("classes", [[f"c{index}" for index in range(45)], None], ids=["named", "counted"])
def test_many_small_classes_beside_void_are_not_black_and_white(tmp_path, classes):
    root = tmp_path / "set"
    labels = np.zeros((60, 80), np.uint8)
    for index in range(1, 45):
        labels[2 * (index // 10) + 4, 4 + 5 * (index % 10) : 8 + 5 * (index % 10)] = index
    labels[-1, :10] = 255
    for index in range(2):
        photo(root / "images" / "val" / f"{index}.png", index, labels.shape)
        mask(root / "masks" / "val" / f"{index}.png", labels)
    if classes:
        (root / "classes.json").write_text(json.dumps({"classes": classes}))
    assert "black-and-white" not in kinds(check_dataset(root))
    dataset = mended(root, tmp_path)
    assert len(dataset.classes.names) == 45
    np.testing.assert_array_equal(dataset.mask(0), labels)


def test_named_classes_stay_when_white_becomes_one(root, tmp_path):
    rewrite(lambda m: (m > 0).astype(np.uint8) * 255)(root)
    assert mended(root, tmp_path).classes.names == ("a", "b", "c")


def test_black_and_white_masks_are_not_also_said_to_hold_one_class(root):
    (root / "classes.json").unlink()
    rewrite(lambda m: (m > 0).astype(np.uint8) * 255)(root)
    assert kinds(check_dataset(root), "wrong") == {"black-and-white"}


@pytest.mark.parametrize(
    ("damage", "left_out"),
    [
        (no_mask, 1),
        (broken_photo, 1),
        (broken_mask, 1),
        (half_size, 0),
        (other_proportions, 1),
        (on_its_side, 0),
        (grey_indices, 0),
        (rewrite(lambda m: (m > 0).astype(np.uint8) * 255), 0),
        (rewrite(lambda m: m + 1), 0),
        (doubled, 2),
    ],
)
def test_a_mended_copy_is_sound(root, tmp_path, damage, left_out):
    damage(root)
    report = check_dataset(root)
    assert not report.sound
    lines = mend_dataset(report, tmp_path / "out")
    assert len(lines) == left_out
    assert all("left out" in line and "\n" not in line for line in lines)
    again = check_dataset(tmp_path / "out")
    assert again.sound
    assert sum(split.photos for split in again.splits.values()) == 7 - left_out


def mended(root, tmp_path):
    mend_dataset(check_dataset(root), tmp_path / "out")
    return open_dataset(tmp_path / "out", "val")


def test_mended_masks_hold_what_was_meant(root, tmp_path):
    mask(root / "masks" / "val" / "1.png", stripes(255, 1))
    before = [open_dataset(root, "val")[index] for index in range(3)]
    grey_indices(root)
    dataset = mended(root, tmp_path)
    assert dataset.classes.names == ("a", "b", "c")
    for index, (image, labels) in enumerate(before):
        np.testing.assert_array_equal(dataset[index][0], image)
        np.testing.assert_array_equal(dataset[index][1], labels)


def test_white_becomes_one_also_where_it_is_blurred(tmp_path):
    root = tmp_path / "set"
    (root / "masks" / "val").mkdir(parents=True)
    disc = cv2.circle(np.zeros((90, 120), np.uint8), (50, 40), 30, 255, -1)
    for index, picture in enumerate((cv2.GaussianBlur(disc, (5, 5), 1), disc)):
        photo(root / "images" / "val" / f"{index}.png", index, (90, 120))
        Image.fromarray(picture).save(root / "masks" / "val" / f"{index}.png")
    report = check_dataset(root)
    assert kinds(report, "wrong") == {"black-and-white"}
    dataset = mended(root, tmp_path)
    assert dataset.classes.names == ("background", "foreground")
    assert (dataset.mask(0) != dataset.mask(1)).mean() < 0.001
    assert dataset.mask(1)[40, 50] == 1
    assert dataset.mask(1)[0, 0] == 0


def test_turned_masks_are_turned_with_their_photos(root, tmp_path):
    stored = open_dataset(root, "val").mask(1)
    on_its_side(root)
    image, labels = mended(root, tmp_path)[1]
    assert image.shape[:2] == labels.shape == (8, 6)
    np.testing.assert_array_equal(labels, np.rot90(stored, -1))  # orientation 6: a quarter clockwise


def test_blurred_colours_become_the_nearest_class(tmp_path):
    root = tmp_path / "set"
    palette = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
    photo(root / "images" / "val" / "0.png", size=(48, 64))
    labels = np.repeat(np.repeat(stripes(0, 1, 2, 0), 8, 0), 8, 1)
    path = root / "masks" / "val" / "0.jpg"
    path.parent.mkdir(parents=True)
    Image.fromarray(painted(labels, dict(enumerate(palette)))).save(path, quality=60)
    (root / "classes.json").write_text(json.dumps({"classes": ["a", "b", "c"], "palette": palette}))
    assert kinds(check_dataset(root), "wrong") == {"stray-colours"}
    assert (mended(root, tmp_path).mask(0) != labels).mean() < 0.02


def test_another_layout_becomes_a_folder(tmp_path):
    """Whatever a data set is laid out as, its mended copy is images, masks and classes.json."""
    for index, split in enumerate(("train", "val")):
        photo(tmp_path / "set" / "images" / f"{split}2017" / "1.jpg", index)
        mask(tmp_path / "set" / "annotations" / f"{split}2017" / "1.png", stripes(0, 17, 181, 255))
    report = check_dataset(tmp_path / "set")
    assert mend_dataset(report, tmp_path / "out") == []
    dataset = open_dataset(tmp_path / "out", "val")
    assert dataset.layout == "a folder of images and masks"
    assert dataset.classes.names[17] == "dog"
    np.testing.assert_array_equal(dataset.mask(0), stripes(0, 17, 181, 255))
    with Image.open(dataset.masks[0]) as stored:
        assert stored.mode == "P"
        assert tuple(stored.getpalette()[51:54]) == dataset.classes.palette[17]


def test_a_copy_appears_whole_or_not_at_all(root, tmp_path, monkeypatch):
    report = check_dataset(root)
    with pytest.raises(AtrousError, match="set: is there already"):
        mend_dataset(report, root)

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full_disk)
    with pytest.raises(AtrousError, match="out: cannot be written: No space left on device"):
        mend_dataset(report, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_progress_counts_to_the_end(root):
    seen = []
    check_dataset(root, lambda done, total: seen.append((done, total)))
    assert seen == [(index, 7) for index in range(1, 8)]


def test_mixed_masks_without_classes_are_refused_in_one_line(root):
    (root / "classes.json").unlink()
    unknown_colour(root)
    with pytest.raises(DataError, match=r"masks of indices beside masks of colours: write .*classes\.json"):
        check_dataset(root)


def test_duplicates_survive_compression_and_others_are_left_alone(monkeypatch):
    random = np.random.default_rng(0)
    photos = [cv2.resize(random.integers(60, 196, (8, 8, 3), dtype=np.uint8), (256, 256)) for _ in range(30)]
    again = cv2.imdecode(cv2.imencode(".jpg", photos[4], [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)
    smaller = cv2.resize(photos[9], (128, 128), interpolation=cv2.INTER_AREA)
    shifted = np.roll(photos[11], 12, axis=1)
    every = [*photos, again, smaller, shifted]
    thumbnails = [cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA) for picture in every]
    assert find_duplicates(thumbnails) == [(4, 30), (9, 31)]
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    assert find_duplicates(thumbnails) == [(4, 30), (9, 31)]


@pytest.mark.slow
def test_real_streets_are_sound(shared_data):
    report = check_dataset(shared_data / "data" / "camvid")
    assert report.sound
    assert kinds(report) == {"imbalance"}
    assert (report.splits["train"].photos, report.splits["val"].photos) == (367, 101)


@pytest.mark.parametrize("classes", [["bg", "fg"], ["a", "b", "c"]])
def test_black_and_white_masks_in_rgb_are_mended_as_grey_ones_are(root, tmp_path, classes):
    (root / "classes.json").write_text(
        json.dumps({"classes": classes, "palette": [[9, 9, 9 + i] for i, _ in enumerate(classes)]})
    )
    rewrite(lambda m: np.repeat((m > 0).astype(np.uint8)[..., None] * 255, 3, 2))(root)
    before = [np.array(Image.open(path))[..., 0] // 255 for path in sorted((root / "masks" / "train").iterdir())]
    report = check_dataset(root)
    assert "black-and-white" in kinds(report, "wrong")
    assert "indices-as-colours" not in kinds(report)
    assert mend_dataset(report, tmp_path / "out") == []
    dataset = open_dataset(tmp_path / "out", "train")
    assert max(mask.max() for mask in before) == 1
    for index, expected in enumerate(before):
        np.testing.assert_array_equal(dataset.mask(index), expected)
