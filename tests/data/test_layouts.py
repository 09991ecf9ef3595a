"""Published data sets: recognised by what lies there, each label where the papers have it."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from atrous.data import list_splits, open_dataset
from atrous.data.layouts.camvid import split_of
from atrous.data.layouts.matlab import read_field
from atrous.errors import DataError
from data_sets import mask, painted, photo, stripes

# What scipy 1.16 wrote, without the header: {"GTcls": {"Boundaries": a cell of two sparse matrices, "Segmentation":
# uint8 [[0, 0, 15], [15, 255, 3]], "CategoriesPresent": [[3], [15]]}}, compressed and not.
COMPRESSED = (
    "4*&oF$^ZZWc$|e$K?=e!5S*k{EJ!P!JbLu#NxTVq@G9sBiiT3q7TO9PeX>8$P2JEnh!%$3OlNl{i2=+s(5E^eP}_bzJ}UvsZ4bwD-S#2I%r6M*"
    "@>-nIDmOJRz}{pRQ#5Ilm&Kdeq>af+tJzhirhml6gt_YcmFKU8KUjZ5r?<L5=mUn_Gvr=*_ZxY<or?$)cLh9FezpF0&p-6?y3F5vT$Q;r?*RKx"
    "fB4HBOOYcIelCZ62hCa}cqReA`=5FBF|QFMzza*eA2<"
)
PLAIN = (
    "4gdfEC;|Wg1^@s62mk;80ssI2000001poj52mk;80RR910RR910RR911poj5M^s~Ma{vGU1pov95&!@I0RR91HUIzsLT`0$WMOh?Wpe-k00000"
    "002{EXKiI}bYXO9Z*Bkp00000Lt%7fXK!+8Wphw+Wpib2bN~PV4gdfEFaZDn1^@s62mk;80RR91000001poj52mk;80ssI20RR910RR9100000"
    "4gdfEcmMzZ1^@s62mk;81poj50{{R31poj52mk;80{{R30{{R30RR91000001poj53;+NC000000RR910ssI2000001poj55C8xG000000RR91"
    "0ssI20{{R32><{97ytkO00000008hm00000008hm00000008hm4gdfEfB*mh1^@s62mk;81poj51ONa41poj52mk;80ssI20ssI20RR9100000"
    "1poj55C8xG000000RR91000000RR911poj53;+NC000000ssI21ONa4000002><{9AOHXW00000008hm00000008hm00000008hm00000008hm"
    "4gdfEH~;_u1^@s62mk;82><{9000001poj52mk;80ssI20{{R30RR91000000ssI21^@s601p8F4+8)I4gdfEFaQ7m1^@s62mk;82><{900000"
    "1poj52mk;80ssI20RR910RR91000000ssO40}lWI"
)


def matlab(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + base64.b85decode(body))
    return path


def voc(root: Path) -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    lists = {"train": ["2007_000001"], "val": ["2007_000002"], "trainval": ["2007_000001", "2007_000002"]}
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in lists.items():
        (base / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    for index, name in enumerate(("2007_000001", "2007_000002", "2008_000003", "2008_000004")):
        photo(base / "JPEGImages" / f"{name}.jpg", index)
    mask(base / "SegmentationClass" / "2007_000001.png", stripes(0, 15, 255, 20), palette=True)
    mask(base / "SegmentationClass" / "2007_000002.png", stripes(7, 8), palette=True)
    return root


def sbd(root: Path) -> Path:
    """Of VOC's photos one to train and one to judge by, and one that VOC has no mask of."""
    base = root / "benchmark_RELEASE" / "dataset"
    for name in ("2007_000001", "2007_000002", "2008_000003"):
        matlab(base / "cls" / f"{name}.mat", COMPRESSED)
    (base / "train.txt").write_text("2007_000001\n2008_000003\n")
    (base / "val.txt").write_text("2007_000002\n")
    return root


def cityscapes(root: Path) -> Path:
    for split, city in (("train", "aachen"), ("val", "ulm")):
        name = f"{city}_000000_000019"
        photo(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
        mask(root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", stripes(7, 33, 0, 29))
        mask(root / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png", stripes(1, 2))
    return root


def ade20k(root: Path) -> Path:
    for folder, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        photo(root / "ADEChallengeData2016" / "images" / folder / f"{name}.jpg")
        mask(root / "ADEChallengeData2016" / "annotations" / folder / f"{name}.png", stripes(0, 1, 13, 150))
    return root


def cocostuff(root: Path) -> Path:
    for folder in ("train2017", "val2017"):
        photo(root / folder / "000000000009.jpg")
        mask(root / "stuffthingmaps" / folder / "000000000009.png", stripes(0, 17, 181, 255))
    return root


def camvid_tutorial(root: Path) -> Path:
    for split, name in (("train", "0001TP_006690"), ("val", "0016E5_07959"), ("test", "Seq05VD_f00000")):
        photo(root / split / f"{name}.png")
        mask(root / f"{split}annot" / f"{name}.png", stripes(0, 10, 11, 3))
    return root


def camvid_original(root: Path) -> Path:
    # Sky, MotorcycleScooter, Void, LaneMkgsDriv; and the tutorial's labels of them.
    colours = {0: (128, 128, 128), 10: (192, 0, 192), 255: (0, 0, 0), 3: (128, 0, 192)}
    for name in ("0001TP_006690", "0016E5_07959", "Seq05VD_f00000", "0001TP_008550"):
        photo(root / "701_StillsRaw_full" / f"{name}.png")
        mask(root / "LabeledApproved_full" / f"{name}_L.png", painted(stripes(0, 10, 255, 3), colours))
    return root


@pytest.mark.parametrize(
    ("build", "layout", "splits", "names", "labels"),
    [
        (voc, "PASCAL VOC", ("train", "val", "trainval"), {15: "person", 20: "tvmonitor"}, (0, 15, 255, 20)),
        (cityscapes, "Cityscapes", ("train", "val"), {0: "road", 18: "bicycle"}, (0, 18, 255, 255)),
        (ade20k, "ADE20K (scene parsing)", ("train", "val"), {0: "wall", 12: "person"}, (255, 0, 12, 149)),
        (cocostuff, "COCO-Stuff 164k", ("train", "val"), {17: "dog", 181: "wood"}, (0, 17, 181, 255)),
        (camvid_tutorial, "CamVid (SegNet tutorial)", ("train", "val", "test"), {10: "Bicyclist"}, (0, 10, 255, 3)),
        (
            camvid_original,
            "CamVid (32 colours to 11 classes)",
            ("train", "val", "test"),
            {3: "Road"},
            (0, 10, 255, 3),
        ),
    ],
)
def test_a_published_layout_is_recognised_and_its_labels_are_the_papers(tmp_path, build, layout, splits, names, labels):
    root = build(tmp_path)
    assert list_splits(root) == splits
    dataset = open_dataset(root, "train")
    assert dataset.layout == layout
    assert {index: dataset.classes.names[index] for index in names} == names
    image, truth = dataset[0]
    assert image.shape == (6, 8, 3)
    np.testing.assert_array_equal(truth, stripes(*labels))
    with pytest.raises(DataError, match=r"has no split 'nowhere'; as .* it has train, val"):
        open_dataset(root, "nowhere")


def test_trainaug_is_vocs_list_and_sbds_without_what_voc_judges_by(tmp_path):
    root = sbd(voc(tmp_path))
    assert list_splits(root) == ("train", "val", "trainval", "trainaug")
    dataset = open_dataset(root, "trainaug")
    assert [path.stem for path in dataset.images] == ["2007_000001", "2008_000003"]
    np.testing.assert_array_equal(dataset.mask(0), stripes(0, 15, 255, 20))  # VOC's own mask, which has outlines
    np.testing.assert_array_equal(dataset.mask(1), [[0, 0, 15], [15, 255, 3]])
    assert dataset.masks[1].suffix == ".mat"


def test_trainaug_as_pictures_and_a_list(tmp_path):
    root = voc(tmp_path)
    base = root / "VOCdevkit" / "VOC2012"
    mask(base / "SegmentationClassAug" / "2008_000004.png", stripes(4, 3))
    line = "/JPEGImages/2008_000004.jpg /SegmentationClassAug/2008_000004.png\n"
    (base / "ImageSets" / "Segmentation" / "trainaug.txt").write_text(line)
    dataset = open_dataset(root, "trainaug")
    np.testing.assert_array_equal(dataset[0][1], stripes(4, 3))


@pytest.mark.parametrize("body", [COMPRESSED, PLAIN], ids=["compressed", "plain"])
def test_matlab_files_are_read_as_scipy_wrote_them(tmp_path, body):
    path = matlab(tmp_path / "x.mat", body)
    np.testing.assert_array_equal(read_field(path, "GTcls", "Segmentation"), [[0, 0, 15], [15, 255, 3]])
    np.testing.assert_array_equal(read_field(path, "GTcls", "CategoriesPresent"), [[3], [15]])


@pytest.mark.parametrize("cut", [0, 100, 130, 200, 300])
def test_damaged_matlab_files_are_named(tmp_path, cut):
    path = matlab(tmp_path / "x.mat", COMPRESSED)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"x\.mat: cannot be read as a MATLAB file"):
        read_field(path, "GTcls", "Segmentation")


def test_cityscapes_converted_masks_are_not_converted_again(tmp_path):
    root = cityscapes(tmp_path)
    folder = root / "gtFine" / "train" / "aachen"
    mask(folder / "aachen_000000_000019_gtFine_labelTrainIds.png", stripes(7, 18, 255, 0))
    np.testing.assert_array_equal(open_dataset(root, "train").mask(0), stripes(7, 18, 255, 0))


def test_an_index_that_no_data_set_has_is_named(tmp_path):
    root = ade20k(tmp_path)
    path = mask(root / "ADEChallengeData2016" / "annotations" / "training" / "ADE_train_00000001.png", 151)
    with pytest.raises(DataError, match=f"{path.name}: holds the label"):
        open_dataset(root, "train").mask(0)


def test_camvids_frames_fall_into_the_tutorials_splits(shared_data):
    folder = shared_data / "data" / "camvid" / "images"
    for split, count in (("train", 367), ("val", 101)):
        names = [path.stem for path in (folder / split).iterdir()]
        assert len(names) == count
        assert {split_of(name) for name in names} == {split}
    assert [split_of(f"{name}") for name in ("0001TP_008520", "0001TP_008550", "Seq05VD_f05100")] == [
        "train",
        "test",
        "test",
    ]


def test_camvids_own_lists_win(tmp_path):
    root = camvid_original(tmp_path)
    (root / "train.txt").write_text("Seq05VD_f00000.png\n")
    assert [path.stem for path in open_dataset(root, "train").images] == ["Seq05VD_f00000"]


def test_what_is_no_data_set_is_said(tmp_path):
    with pytest.raises(DataError, match="no known data set; it holds neither images/"):
        open_dataset(tmp_path, "train")
    with pytest.raises(DataError, match="nowhere: no such directory"):
        open_dataset(tmp_path / "nowhere", "train")
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["a"]}))
    with pytest.raises(DataError, match="no known data set"):
        list_splits(tmp_path)


def test_a_photo_without_its_mask_is_named(tmp_path):
    root = cocostuff(tmp_path)
    photo(root / "train2017" / "000000000025.jpg")
    with pytest.raises(DataError, match=r"000000000025\.jpg: has no mask; .*stuffthingmaps.*000000000025\.png"):
        open_dataset(root, "train")
