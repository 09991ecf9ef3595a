"""`atrous explain`: a picture, its arrays, and the numbers that the functions give."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from atrous.explain import gridding, valid_weights


def test_valid_weights_writes_a_picture_its_arrays_and_the_numbers(atrous, tmp_path) -> None:
    out = tmp_path / "new" / "weights.png"
    result = atrous("explain", "valid-weights", "--size", "33x65", "--rates", "6,12,18", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    expected = valid_weights((33, 65), [6, 12, 18])
    assert json.loads(result.stdout) == {**expected.numbers(), "files": [str(out), str(out.with_suffix(".npz"))]}
    with np.load(out.with_suffix(".npz")) as arrays:
        assert (arrays["positions"] == expected.positions).all()
    with Image.open(out) as picture:
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    assert sorted(path.name for path in out.parent.iterdir()) == ["weights.npz", "weights.png"]


def test_gridding_takes_several_stacks(atrous, tmp_path) -> None:
    out = tmp_path / "holes.svg"
    stacks = ["--rates", "1,2,3", "--rates", "2,2"]
    result = atrous("explain", "gridding", *stacks, "--out", out)
    assert result.exit_code == 0, result.output
    hybrid, same = gridding([(1, 2, 3), (2, 2)]).stacks
    assert [line.split()[-2:] for line in result.stdout.splitlines()[1:3]] == [
        ["100.0%", "1"],
        [f"{same.reached:.1%}", "2"],
    ]
    assert hybrid.reached == 1
    assert "rates 1, 2, 3: 100% of 13×13 pixels" in out.read_text(encoding="utf-8")


def test_an_even_kernel_is_shown_at_even_rates(atrous, tmp_path) -> None:
    result = atrous("explain", "valid-weights", "--size", "9", "--kernel", "4", "--out", tmp_path / "a.png", "--json")
    assert json.loads(result.stdout)["rates"] == [2, 4, 6, 8]


def test_the_help_of_an_idea_imports_nothing_heavy() -> None:
    code = (
        "import sys; from atrous.cli.main import main\n"
        "try: main()\nfinally: print({'torch', 'cv2', 'numpy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "explain", "gridding", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "set()"
    assert "--rates" in done.stdout


@pytest.mark.parametrize(
    ("idea", "arguments", "array"),
    [
        ("receptive-field", ["--layer", "backbone.blocks.3", "--samples", "1", "--at", "20,30"], "effective"),
        ("output-stride", ["--strides", "8,32"], "labels_32"),
        ("aspp", [], "part"),
        ("crf", ["--iterations", "2"], "energy"),
        ("spp", ["--levels", "3,1"], "bins"),
    ],
)
def test_the_ideas_that_look_at_a_photo(atrous, photos, model_folder, tmp_path, idea, arguments, array) -> None:
    out = tmp_path / "out.png"
    given = ["--photo", photos / "a.png", "--model", model_folder, "--out", out, *arguments]
    result = atrous("explain", idea, *given, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == [str(out), str(out.with_suffix(".npz"))]
    with np.load(out.with_suffix(".npz")) as arrays:
        assert np.ptp(arrays[array]) > 0
    table = atrous("explain", idea, *given)
    assert f"written to {out}" in table.stdout
    assert table.stderr == ""


@pytest.mark.parametrize("idea", ["output-stride", "aspp", "crf"])
def test_a_photo_is_not_written_over(atrous, photos, model_folder, idea) -> None:
    photo = next(photos.glob("*.png"))
    before = photo.read_bytes()
    result = atrous("explain", idea, "--photo", photo, "--model", model_folder, "--out", photo)
    assert result.exit_code == 2
    assert "would be written over the photo" in result.stderr
    assert photo.read_bytes() == before


def test_paper_writes_a_page_and_says_that_weights_are_random(atrous, photos, tmp_path) -> None:
    page = tmp_path / "walk.html"
    given = ["--photo", photos / "a.png", "--out", page]
    result = atrous("explain", "paper", "v3", *given, "--model", "deeplabv3_mobilenet_v2_050")
    assert result.exit_code == 0, result.output
    assert "10 stages, 697,013 parameters" in result.stdout
    assert "random weights" in result.stderr
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gridding", "--rates", "1;2"], "--rates '1;2': give whole numbers"),
        (["gridding", "--out", "x.jpg"], "x.jpg: a plot is saved as .png, .svg or .pdf"),
        (["valid-weights", "--size", "0"], "--size '0': give a side or HEIGHTxWIDTH"),
        (["valid-weights", "--size", "99999999"], "maps have sides of up to 4096 positions"),
        (["receptive-field", "--at", "5"], "--at '5': give ROW,COLUMN"),
        (["aspp", "--photo", "nothing.jpg"], "nothing.jpg"),
        (["paper", "v3", "--photo", "p.jpg", "--out", "x.pdf"], "x.pdf: the page is HTML"),
        (["paper", "v5", "--photo", "p.jpg"], "no paper 'v5'"),
    ],
)
def test_misuse_is_one_line_and_2_and_writes_nothing(atrous, tmp_path, monkeypatch, arguments, said) -> None:
    monkeypatch.chdir(tmp_path)
    result = atrous("explain", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
