"""`atrous ablate`: the list, the estimate, a run, and what misuse says."""

import json

import numpy as np
import pytest
from PIL import Image

from atrous.ablation import EXPERIMENTS

RECIPE = """
model: {name: deeplabv3_mobilenet_v2_050}
augment: {crop: [33, 33]}
schedule: {epochs: 3}
batch_size: 2
"""


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "toy"
    root.mkdir()
    (root / "classes.json").write_text(json.dumps({"classes": ["dark", "light"], "palette": [[0] * 3, [9] * 3]}))
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(2):
            mask = np.zeros((35, 40), np.uint8)
            mask[:, 15 + index :] = 1
            Image.fromarray(mask * 200).convert("RGB").save(root / "images" / split / f"{index}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index}.png")
    return root


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(RECIPE)
    return path


def test_without_a_name_the_experiments_are_listed(atrous):
    result = atrous("ablate")
    assert result.exit_code == 0
    for name, experiment in EXPERIMENTS.items():
        assert f"{name}: {len(experiment.rows)} rows ({experiment.source})" in result.stdout


@pytest.mark.slow
def test_an_estimate_then_a_run_then_the_table_again(atrous, data, recipe, tmp_path):
    out = tmp_path / "out"
    args = ("ablate", "v3-multigrid", "--data", data, "--recipe", recipe, "--out", out, "--seeds", 1, "--epochs", 1)
    args = (*args, "--only", "*-1-1-1", "--workers", 0, "--device", "cpu", "--price", 36)
    estimate = atrous(*args, "--dry-run")
    assert estimate.exit_code == 0, estimate.output
    assert "left out: block5-1-1-1, block6-1-1-1, block7-1-1-1 (deeplabv3_cascade_mobilenet_v2_050" in estimate.stderr
    assert "at 36 an hour on this machine" in estimate.stdout
    assert not out.exists()
    run = atrous(*args)
    assert run.exit_code == 0, run.output
    (path,) = (out / "v3-multigrid/results").iterdir()
    result = json.loads(path.read_text())
    assert result["settings"]["schedule"]["epochs"] == 1
    assert f"[1/1] block4, (1, 1, 1), seed 0: mIoU {result['miou']:.2%}; " in run.stdout
    table = out / "v3-multigrid/table.md"
    first = table.read_text()
    assert f"| (1, 1, 1) | {100 * result['miou']:.2f} |  | 68.39 |  | 1 |" in first
    table.unlink()
    again = atrous("ablate", "v3-multigrid", "--out", out, "--table")
    assert again.exit_code == 0, again.output
    assert table.read_text() == first
    assert "68.39" in again.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("v9", "--data", "DATA"), "no experiment is called 'v9'"),
        (("inference",), "--data: give the folder"),
        (("inference", "--data", "none"), "none: no such directory"),
        (("inference", "--data", "DATA", "--recipe", "none.yaml"), "none.yaml: no recipe there"),
        (("inference", "--data", "DATA", "--only", "x"), "--only x: no such row"),
        (("inference", "--data", "DATA", "--set", "a.b=1"), "a: unknown key"),
        (("inference", "--data", "DATA", "--backbone", "vgg16"), "cannot be run on backbone 'vgg16'"),
        (("inference", "--table"), "no results yet"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else None,
)
def test_misuse_is_one_line_and_exit_code_2(atrous, data, tmp_path, args, message):
    given = [data if arg == "DATA" else arg for arg in args]
    result = atrous("ablate", *given, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
