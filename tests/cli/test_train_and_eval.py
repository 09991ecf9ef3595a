"""`atrous train` and `atrous eval`: from a folder to a model to its scores, and what misuse says."""

import json

import numpy as np
import pytest
from PIL import Image

from atrous.evaluation import evaluate
from atrous.inference import load
from atrous.weights import read_card

RECIPE = """
description: a toy
licence: CC0
model: {name: deeplabv3_mobilenet_v2_050}
augment: {crop: [33, 33]}
schedule: {epochs: 5}
batch_size: 2
"""


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "toy"
    root.mkdir()
    classes = ("road", "sky", "tree", "car")
    (root / "classes.json").write_text(json.dumps({"classes": classes, "palette": [[i, i, i] for i in range(4)]}))
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(2):
            mask = rng.integers(0, 4, (35, 40), dtype=np.uint8)
            Image.fromarray(mask * 60).convert("RGB").save(root / "images" / split / f"{index}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index}.png")
    return root


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


def test_eval_prints_what_evaluate_gives(atrous, model_folder, data):
    result = atrous("eval", model_folder, "--data", data, "--split", "val", "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed == {**printed, **evaluate(load(model_folder), data).scores.to_dict()}
    assert printed["photos"] == 2
    assert list(printed["iou"]) == ["road", "sky", "tree", "car"]
    table = atrous("eval", model_folder, "--data", data).stdout
    assert f"{printed['pixel_accuracy']:.1%}"[:-2] in table


def test_eval_at_another_output_stride_and_flipped(atrous, model_folder, data):
    predictor = load(model_folder)
    predictor.model.set_output_stride(8)
    expected = evaluate(predictor, data, scales=(1.0, 1.5), flip=True).scores.to_dict()
    args = ("--output-stride", 8, "--scales", "1,1.5", "--flip", "--json")
    printed = json.loads(atrous("eval", model_folder, "--data", data, *args).stdout)
    assert printed == {**printed, **expected}


@pytest.mark.slow
def test_train_leaves_a_model_that_eval_confirms(atrous, data, recipe, tmp_path):
    out = tmp_path / "run"
    args = ("train", recipe, "--data", data, "--out", out, "--set", "schedule.epochs=1", "--workers", 0)
    result = atrous(*args, "--device", "cpu")
    assert result.exit_code == 0, result.output
    provenance = read_card(out)[1].provenance
    assert provenance["recipe"] == "toy.yaml"
    assert provenance["settings"]["schedule"]["epochs"] == 1
    assert provenance["trained_on"] == "toy train (2 photos)"
    printed = json.loads(atrous("eval", out, "--data", data, "--json").stdout)
    scores = provenance["scores"]
    assert scores.pop("split") == "val"
    assert scores == {name: printed[name] for name in scores}
    header, *rows = (out / "metrics.csv").read_text().splitlines()
    assert header == "epoch,loss,learning_rate,miou,pixel_accuracy,images_per_second,epoch_seconds,seconds,note"
    assert len(rows) == 1
    again = atrous(*args)
    assert again.exit_code == 2
    assert "--resume" in again.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("train", "none.yaml", "--data", "DATA", "--out", "OUT"), "none.yaml: no recipe there"),
        (("train", "RECIPE", "--data", "none", "--out", "OUT"), "none: no such directory"),
        (("train", "RECIPE", "--data", "DATA", "--out", "OUT", "--set", "a.b=1"), "a: unknown key"),
        (("train", "RECIPE", "--data", "DATA", "--out", "OUT", "--device", "gpu9"), "device"),
        (("eval", "none", "--data", "DATA"), "no model 'none'"),
        (("eval", "MODEL", "--data", "none"), "none: no such directory"),
        (("eval", "MODEL", "--data", "DATA", "--split", "test"), "has no split 'test'"),
        (("eval", "MODEL", "--data", "DATA", "--scales", "x"), "--scales 'x'"),
        (("eval", "MODEL", "--data", "DATA", "--output-stride", "7"), "output_stride=7"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_misuse_is_one_line_and_exit_code_2(atrous, data, recipe, model_folder, tmp_path, args, message):
    places = {"DATA": data, "RECIPE": recipe, "OUT": tmp_path / "out", "MODEL": model_folder}
    result = atrous(*(places.get(arg, arg) for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
