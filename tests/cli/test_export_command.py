"""`atrous export` and `--engine`: what the command writes and says."""

import json

import numpy as np
import pytest
from PIL import Image

from atrous.inference import load


def test_a_file_for_onnx_runtime_with_the_commands_own_labels(atrous, model_folder, photos, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = atrous("export", model_folder, "--size", "40x60", "--out", tmp_path / "out" / "small.onnx")
    assert done.exit_code == 0, done.output
    assert "small.onnx" in done.stdout
    assert "of the pixels have torch's label" in done.stdout
    session = onnxruntime.InferenceSession(tmp_path / "out" / "small.onnx", providers=["CPUExecutionProvider"])
    photo = np.asarray(Image.open(photos / "a.png"))
    (labels,) = session.run(None, {"image": photo[None]})
    assert (labels[0] == load(model_folder, "cpu")(photo).labels).mean() > 0.999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "512"], "--size '512': give height and width, e.g. 513x769, or dynamic"),
        (["--format", "caffe"], "format 'caffe' is unknown: give one of onnx, onnx-int8"),
        (["--format", "onnx-int8"], "needs calibration photos"),
        (["--format", "openvino"], "ends in .xml; or give a folder"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(atrous, model_folder, tmp_path, arguments, message):
    done = atrous("export", model_folder, "--out", tmp_path / "m.onnx", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_predict_takes_an_engine(atrous, photos, tmp_path):
    pytest.importorskip("onnxruntime")
    for engine in ("torch", "onnxruntime"):
        assert atrous("predict", photos, "--out", tmp_path / engine, "--mask", "--engine", engine).exit_code == 0
    for name in ("a.png", "b.png", "c.png"):
        masks = [np.asarray(Image.open(tmp_path / engine / name)) for engine in ("torch", "onnxruntime")]
        assert (masks[0] == masks[1]).mean() > 0.999
    done = atrous("predict", photos, "--out", tmp_path / "none", "--engine", "abacus")
    assert done.exit_code == 2
    assert "engine 'abacus' is unknown" in done.stderr


def test_many_photos_choose_the_fastest_engine_by_themselves(atrous, tmp_path, monkeypatch):
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path / "home"))
    many = tmp_path / "many"
    many.mkdir()
    for index in range(20):
        Image.fromarray(np.full((33, 33, 3), index, dtype=np.uint8)).save(many / f"{index}.png")
    assert atrous("predict", many / "0.png", "--json").exit_code == 0
    assert not (tmp_path / "home").exists()
    assert atrous("predict", many, "--json").exit_code == 0
    assert len(json.loads((tmp_path / "home" / "engines.json").read_text())) == 1
