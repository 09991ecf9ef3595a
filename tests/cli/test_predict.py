"""`atrous predict`: what is written, what is said, and with which exit code it ends."""

import json

import numpy as np
import pytest
from PIL import Image

from atrous.inference import load


def test_photos_become_masks_and_overlays(atrous, photos, tmp_path, model_folder) -> None:
    out = tmp_path / "new" / "out"
    result = atrous("predict", photos, "--out", out)
    assert result.exit_code == 0, result.stderr
    names = ["a.png", "a_overlay.jpg", "b.png", "b_overlay.jpg", "c.png", "c_overlay.jpg"]
    assert sorted(path.name for path in out.iterdir()) == names
    predictor = load(model_folder)
    for photo in photos.iterdir():
        expected = predictor(photo)
        mask = Image.open(out / f"{photo.stem}.png")
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), expected.labels)
        overlay = np.asarray(Image.open(out / f"{photo.stem}_overlay.jpg")).astype(int)
        assert np.abs(overlay - np.asarray(expected.overlay())).mean() < 12


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--mask"], {"a.png"}),
        (["--overlay"], {"a_overlay.jpg"}),
        (["--both"], {"a.png", "a_overlay.jpg"}),
        (["--mask", "--overlay"], {"a.png", "a_overlay.jpg"}),
        (["--mask", "--both"], {"a.png", "a_overlay.jpg"}),
    ],
)
def test_what_is_asked_for_is_written(atrous, photos, tmp_path, flags, names) -> None:
    assert atrous("predict", photos / "a.png", "--out", tmp_path / "out", *flags).exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_options_reach_the_predictor(atrous, photos, tmp_path, model_folder) -> None:
    photo = tmp_path / "large.png"
    random = np.random.default_rng(2).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(random).resize((300, 200)).save(photo)
    predictor = load(model_folder)
    plain = predictor(photo).labels
    for flags, options in (
        (["--scales", ".5,1,1.5"], {"scales": (0.5, 1, 1.5)}),
        (["--flip"], {"flip": True}),
        (["--tile", "129"], {"tile": 129}),
    ):
        out = tmp_path / flags[0]
        assert atrous("predict", photo, "--out", out, "--mask", "--device", "cpu", *flags).exit_code == 0
        expected = predictor(photo, **options).labels
        assert (expected != plain).any()
        np.testing.assert_array_equal(np.asarray(Image.open(out / "large.png")), expected)


def test_a_line_a_photo_tells_its_classes(atrous, photos, tmp_path) -> None:
    result = atrous("predict", photos, "--out", tmp_path / "out")
    lines = result.stdout.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        [str(photos / "a.png"), "60×40"],
        [str(photos / "b.jpg"), "33×33"],
        [str(photos / "c.png"), "90×20"],
    ]
    assert all("%" in line and " ms " in line for line in lines)
    assert result.stderr.startswith("3 photos in ")


def test_json_is_alone_on_stdout_and_tells_what_was_written(shell, photos, model_folder, tmp_path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    out = tmp_path / "out"
    done = shell("predict", photos, "--out", out, "--model", model_folder, "--json")
    assert done.returncode == 1
    described = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["input"], each["width"], each["height"]) for each in described] == [
        (str(photos / "a.png"), 60, 40),
        (str(photos / "b.jpg"), 33, 33),
        (str(photos / "c.png"), 90, 20),
    ]
    predictor = load(model_folder)
    for each in described:
        assert each["areas"] == predictor(each["input"]).areas()
        assert sum(each["areas"].values()) == pytest.approx(1)
        assert each["milliseconds"] > 0
        mask, overlay = each["outputs"]["mask"], each["outputs"]["overlay"]
        assert Image.open(mask).size == Image.open(overlay).size == (each["width"], each["height"])
    failure, summary = done.stderr.splitlines()
    assert failure.startswith(f"atrous: {photos / 'broken.jpg'}: ")
    assert summary.startswith("3 photos in ")
    assert summary.endswith(", 1 failed")


def test_json_alone_writes_nothing(atrous, photos, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = atrous("predict", photos / "a.png", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["outputs"] == {}
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_bad_photos_do_not_stop_the_rest(atrous, photos, tmp_path) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "text.png").write_text("no image")
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:100])
    result = atrous("predict", photos, photos / "gone.jpg", "--out", tmp_path / "out", "--mask")
    assert result.exit_code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]
    told = [line for line in result.stderr.splitlines() if line.startswith("atrous: ")]
    assert len(told) == 4
    for name in ("empty.jpg", "text.png", "cut.png", "gone.jpg"):
        assert sum(name in line for line in told) == 1
    assert "3 photos" in result.stderr
    assert "4 failed" in result.stderr
    assert "Traceback" not in result.stderr


def test_files_that_cannot_be_written_fail_their_photo(atrous, photos, tmp_path) -> None:
    (photos / "more").mkdir()
    (photos / "b.jpg").rename(photos / "more" / "b.jpg")
    out = tmp_path / "out"
    out.mkdir()
    (out / "more").write_text("a file where a folder is to be")
    result = atrous("predict", photos / "**" / "*", "--out", out, "--mask")
    assert result.exit_code == 1
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "c.png", "more"]
    assert len(result.stdout.splitlines()) == 2
    assert "b.jpg: not written" in result.stderr
    assert "1 failed" in result.stderr


def test_a_second_run_replaces_the_first(atrous, photos, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"something older")
    for _ in range(2):
        assert atrous("predict", photos, "--out", out).exit_code == 0
    assert Image.open(out / "a.png").size == (60, 40)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{photos}"], "nowhere to write: give --out"),
        (["{tmp}/none.jpg", "--out", "{out}"], "none.jpg"),
        (["{tmp}/*.jpg", "--out", "{out}"], "*.jpg"),
        (["{tmp}/empty", "--out", "{out}"], "empty"),
        (["{photos}", "--out", "{photos}/a.png"], "is a file; give a directory"),
        (["{photos}", "--out", "{photos}"], "is an input and would be written over"),
        (["{photos}", "--out", "{out}", "--model", "nonesuch"], "nonesuch"),
        (["{photos}", "--out", "{out}", "--model", "{tmp}/empty"], "empty"),
        (["{photos}", "--out", "{out}", "--device", "warp"], "device 'warp' is unknown"),
        (["{photos}", "--out", "{out}", "--scales", "1,x"], "--scales '1,x'"),
        (["{photos}", "--out", "{out}", "--scales", ""], "--scales ''"),
        (["{photos}", "--out", "{out}", "--scales", "0"], "scale 0 "),
        (["{photos}", "--out", "{out}", "--tile", "7"], "tile=7 "),
        (["{photos}", "--out", "{out}", "--batch-size", "0"], "batch_size=0 "),
    ],
)
def test_misuse_is_one_line_and_2_and_touches_nothing(atrous, photos, tmp_path, args, message) -> None:
    (tmp_path / "empty").mkdir()
    before = {path: path.read_bytes() for path in photos.iterdir()}
    places = {"photos": photos, "tmp": tmp_path, "out": tmp_path / "out"}
    result = atrous("predict", *(arg.format(**places) for arg in args))
    assert result.exit_code == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("atrous: error: ")
    assert message in line
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    assert not (tmp_path / "out").exists()


def test_a_glob_that_the_shell_did_not_expand(atrous, photos, tmp_path) -> None:
    result = atrous("predict", photos / "*.png", "--out", tmp_path / "out", "--mask")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]


def test_a_photo_named_twice_is_predicted_once(atrous, photos, tmp_path) -> None:
    result = atrous("predict", photos / "a.png", photos, photos / "a.png", "--out", tmp_path / "out")
    assert len(result.stdout.splitlines()) == 3
