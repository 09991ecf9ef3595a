"""`atrous eval`: what it prints, the page, the masks, and several processes as torchrun starts them."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.evaluation import Windows, evaluate
from atrous.inference import load

CLASSES = ("road", "sky", "tree", "car")


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "toy"
    for kind in ("images", "masks"):
        (root / kind / "val").mkdir(parents=True)
    palette = [[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    (root / "classes.json").write_text(json.dumps({"classes": CLASSES, "palette": palette}))
    random = np.random.default_rng(0)
    for index in range(3):
        blotches = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(blotches).resize((50, 40)).save(root / "images" / "val" / f"{index}.png")
        mask = np.kron(random.integers(0, 4, (4, 5), dtype=np.uint8), np.ones((10, 10), np.uint8))
        mask[:2] = 255
        Image.fromarray(mask).save(root / "masks" / "val" / f"{index}.png")
    return root


def judged(printed: str) -> dict:
    """The scores, without what they cost."""
    told = json.loads(printed)
    assert told.pop("seconds_per_photo") > 0
    assert told.pop("peak_memory_mb") > 0
    return told


ALL = ("--trimap", "auto", "--boundary", "--calibration", "--json")


def test_everything_asked_for_is_printed(atrous, model_folder, data):
    args = ("--window", 35, "--stride", 20, "--flip")
    result = atrous("eval", model_folder, "--data", data, *ALL, *args)
    assert result.exit_code == 0, result.output
    asked = {"trimap": "auto", "boundary": True, "calibration": True, "windows": Windows(35, 20), "flip": True}
    expected = evaluate(load(model_folder), data, **asked).to_dict()
    del expected["seconds_per_photo"], expected["peak_memory_mb"]
    told = judged(result.stdout)
    assert told == expected
    assert told["trimap"]["around"] == "edges"
    assert set(told["boundary_iou"]) == {"mean", *CLASSES}
    table = atrous("eval", model_folder, "--data", data, *ALL[:-1], *args).stdout
    assert f"{told['calibration']['error']:.2%}" in table
    assert f"{told['trimap']['miou'][4]:.2%}" in table
    assert "the edges of the labels" in table


def test_many_views_choose_the_fastest_engine_that_does_not_round(atrous, model_folder, data, tmp_path, monkeypatch):
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path / "home"))
    given = ("eval", model_folder, "--data", data, "--json", "--scales", ".5,.75,1,1.25", "--flip")
    few = judged(atrous(*given[:-2], "1").stdout)
    assert not (tmp_path / "home").exists()
    many, exactly = judged(atrous(*given).stdout), judged(atrous(*given, "--engine", "torch").stdout)
    assert many["pixel_accuracy"] == pytest.approx(exactly["pixel_accuracy"], abs=5e-4)
    assert many["pixel_accuracy"] != few["pixel_accuracy"]
    measured = json.loads((tmp_path / "home" / "engines.json").read_text()).values()
    assert measured
    for each in measured:
        assert set(each["milliseconds"]) <= {"torch", "openvino", "onnxruntime"}


def test_the_report_shows_the_scores_and_every_worst_photo(atrous, model_folder, data, tmp_path):
    page = tmp_path / "pages" / "report.html"
    result = atrous("eval", model_folder, "--data", data, "--report", page, "--json")
    assert result.exit_code == 0, result.output
    told, text = judged(result.stdout), page.read_text()
    assert f"{told['miou']:.2%}" in text
    assert f"{told['calibration']['error']:.2%}" in text
    names = re.findall(r"<figcaption>(\d\.png): mean IoU ([\d.]+)%", text)
    assert sorted(name for name, _ in names) == ["0.png", "1.png", "2.png"]
    scores = [float(score) for _, score in names]
    assert scores == sorted(scores)
    photos = len(re.findall(r'src="data:image/(jpeg|png)', text))
    assert photos == 9  # photo, truth and prediction of each
    assert len(re.findall(r'src="data:image/svg', text)) == 5
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched


def test_masks_for_a_split_without_any(atrous, model_folder, data, tmp_path):
    for path in (data / "masks" / "val").iterdir():
        path.unlink()
    out = tmp_path / "masks"
    result = atrous("eval", model_folder, "--data", data, "--save-masks", out)
    assert result.exit_code == 0, result.output
    assert "has no masks of its own" in result.stderr
    found = {path.name: np.asarray(Image.open(path)) for path in out.iterdir()}
    assert sorted(found) == ["0.png", "1.png", "2.png"]
    assert np.array_equal(found["1.png"], load(model_folder)(data / "images" / "val" / "1.png").labels)
    assert "has no mask" in atrous("eval", model_folder, "--data", data).stderr
    refused = atrous("eval", model_folder, "--data", data, "--save-masks", tmp_path / "other", "--json")
    assert refused.exit_code == 2
    assert "leave --report, --trimap, --boundary, --calibration and --json out" in refused.stderr
    assert not (tmp_path / "other").exists()


def test_masks_are_written_beside_the_scores(atrous, model_folder, data, tmp_path):
    result = atrous("eval", model_folder, "--data", data, "--save-masks", tmp_path / "out", "--json")
    masks = [np.asarray(Image.open(tmp_path / "out" / f"{index}.png")) for index in range(3)]
    truths = [np.asarray(Image.open(data / "masks" / "val" / f"{index}.png")) for index in range(3)]
    right = sum(int((mask == truth)[truth != 255].sum()) for mask, truth in zip(masks, truths, strict=True))
    assert judged(result.stdout)["pixel_accuracy"] == pytest.approx(right / (3 * 38 * 50), abs=1e-4)


@pytest.mark.slow
def test_two_processes_print_once_what_one_prints(atrous, model_folder, data):
    """What torchrun sets for each; the counts go through gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from atrous.cli.main import main; main()"]
    command += ["eval", str(model_folder), "--data", str(data), *ALL]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    runs = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    printed = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    alone = atrous("eval", model_folder, "--data", data, *ALL).stdout
    assert judged(printed[0]) == judged(alone)
    assert judged(alone)["photos"] == 3
    assert printed[1] == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--crf", "vco"), "crf 'vco'"),
        (("--trimap", "both"), "give auto, void or edges"),
        (("--stride", 10), "--stride goes with --window"),
        (("--window", 10), "window=10 is too small"),
        (("--window", 129, "--stride", 0), "--stride 0: give 1 pixel or more"),
        (("--format", "cityscapes"), "--format cityscapes goes with --save-masks"),
        (("--save-masks", "s3://bucket/masks"), "--save-masks s3://bucket/masks: is an address"),
        (("--report", "{data}/classes.json/r.html"), "/classes.json is a file, not a folder"),
        (("--report", "scores.pdf"), "ends in .html"),
        (("--save-masks", "out", "--format", "kitti"), "give one of labels, cityscapes, ade20k"),
        (("--save-masks", "out", "--format", "cityscapes"), "'tree' is none of cityscapes's classes"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(atrous, model_folder, data, args, message):
    given = [arg.format(data=data) if isinstance(arg, str) else arg for arg in args]
    result = atrous("eval", model_folder, "--data", data, *given)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_names_of_classes_are_no_markup(atrous, model_folder, data, tmp_path):
    model_folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    names = ["road [wet]", "road [dry]", '[/x] "q"', "car"]
    card = json.loads((model_folder / "config.json").read_text())
    (model_folder / "config.json").write_text(json.dumps({**card, "classes": names}))
    (data / "classes.json").write_text(json.dumps({"classes": names}))
    result = atrous("eval", model_folder, "--data", data)
    assert result.exit_code == 0, result.output
    assert all(name in result.stdout for name in names)
