"""What a run leaves behind: the same files for a run that was stopped and resumed as for one that never was."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr

import pytest
import torch

from atrous.errors import AtrousError
from atrous.evaluation import evaluate
from atrous.inference import load
from atrous.training import Recipe, Trainee, keeping, load_recipe, train
from atrous.training.keeping import CHECKPOINT
from atrous.training.tensorboard import Board
from atrous.weights import read_card
from data_sets import sky_over_ground

RECIPE = {
    "model": {"name": "deeplabv3_mobilenet_v2_050", "batch_norm_momentum": 0.5},
    "augment": {"crop": (33, 33), "scale": (0.8, 1.2)},
    "optimizer": {"name": "adamw", "lr": 3e-3, "backbone_multiplier": 0.5},
    "schedule": {"epochs": 4},
    "batch_size": 2,
    "validate_every": 3,
    "seed": 5,
}
# Nothing changes from one epoch to the next: no later validation is better than the first.
STANDSTILL = {
    **RECIPE,
    "model": {"name": "deeplabv3_mobilenet_v2_050", "fixed_batch_norm": True},
    "optimizer": {"lr": 1e-12},
    "schedule": {"epochs": 9},
    "validate_every": 1,
    "early_stop": 2,
}
TIMES = {"images_per_second", "epoch_seconds", "seconds"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six steps in two epochs."""
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 5, "val": 6})


def run(data, out, recipe=RECIPE, resume=False, **changes):
    recipe = Recipe.model_validate({**recipe, **changes})
    return train(recipe, data, out, resume=resume, recipe_name="toy.yaml", workers=0, device="cpu")


class KilledError(Exception):
    pass


def killed(data, out, step, recipe=RECIPE):
    """A run that ends in the middle of that step."""
    plain, steps = Trainee.training_step, 0

    def step_until_killed(self, batch, index):
        nonlocal steps
        steps += 1
        if steps == step:
            raise KilledError
        return plain(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainee, "training_step", step_until_killed)
        with pytest.raises(KilledError):
            run(data, out, recipe)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A finished run, and what it said."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    with redirect_stderr(io.StringIO()) as said:
        run(data, out)
    return out, said.getvalue()


@pytest.fixture(scope="module")
def resumed(data, tmp_path_factory):
    """The same, killed in its third epoch."""
    out = tmp_path_factory.mktemp("runs") / "resumed"
    killed(data, out, 8)
    run(data, out, resume=True)
    return out


def metrics(out):
    with (out / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def events(out):
    """All numbers and pictures that TensorBoard shows: by name, their steps and values."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = event_accumulator.EventAccumulator(str(out / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    found.Reload()
    scalars = {name: [(e.step, e.value) for e in found.Scalars(name)] for name in found.Tags()["scalars"]}
    images = {name: [(e.step, e.encoded_image_string) for e in found.Images(name)] for name in found.Tags()["images"]}
    return scalars, images


def test_a_resumed_run_leaves_the_metrics_of_one_never_stopped(whole, resumed):
    assert metrics(resumed) == metrics(whole[0])


def test_the_learning_rate_is_that_of_the_epochs_last_step(whole):
    """Poly over twelve steps, three an epoch; without the backbone's multiplier."""
    expected = [3e-3 * (1 - (3 * epoch - 1) / 12) ** 0.9 for epoch in (1, 2, 3, 4)]
    assert [float(row["learning_rate"]) for row in metrics(whole[0])] == pytest.approx(expected)


def test_epochs_are_judged_as_the_recipe_says_and_the_last_one_always(whole, data):
    rows = metrics(whole[0])
    assert [row["epoch"] for row in rows if row["miou"]] == ["3", "4"]
    assert not any(row["note"] for row in rows)
    best = max((row for row in rows if row["miou"]), key=lambda row: float(row["miou"]))
    provenance = read_card(whole[0])[1].provenance
    assert provenance["epoch"] == int(best["epoch"])
    # Kept in half precision: hardly another score.
    assert evaluate(load(whole[0]), data).miou == pytest.approx(float(best["miou"]), abs=0.02)


def test_a_line_an_epoch_where_stderr_is_no_terminal(whole):
    lines = whole[1].splitlines()
    assert len(lines) == 4
    for number, (line, row) in enumerate(zip(lines, metrics(whole[0]), strict=True), 1):
        assert line.startswith(f"epoch {number}/4: loss {float(row['loss']):.4f}")
        assert re.search(r"[\d.]+ images/s, (\d+ s|\d+ min.*) left$", line)
        assert (f"mIoU {float(row['miou'] or 0):.2%}" in line) == bool(row["miou"])
    assert lines[-1].endswith(", 0 s left")


def test_the_recipe_beside_the_model_repeats_the_run(whole):
    assert load_recipe(whole[0] / "recipe.yaml") == Recipe.model_validate(RECIPE)
    text = (whole[0] / "recipe.yaml").read_text()
    assert re.match(r"# command: .*\n# data: .*data\d*\n# commit: \S+\n# versions: atrous .*, torch .*\nmodel:", text)


def test_tensorboard_goes_on_without_a_step_twice_or_a_gap(whole, resumed):
    """What the killed run wrote of its third epoch is purged, and comes again."""
    scalars, images = events(whole[0])
    assert [step for step, _ in scalars["loss"]] == list(range(1, 13))
    assert events(resumed) == (scalars, images)


def test_tensorboard_has_the_numbers_of_the_metrics(whole):
    scalars, images = events(whole[0])
    rows = metrics(whole[0])
    assert scalars["mIoU"] == [(9, pytest.approx(float(rows[2]["miou"]))), (12, pytest.approx(float(rows[3]["miou"])))]
    mean = [sum(value for _, value in scalars["loss"][3 * epoch :][:3]) / 3 for epoch in range(4)]
    # An epoch's loss is its samples' mean, of which the last batch has one; a curve has a point a batch.
    assert mean == pytest.approx([float(row["loss"]) for row in rows], rel=0.3)
    assert {name for name in scalars if name.startswith("IoU/")} == {"IoU/sky", "IoU/ground"}
    rates = {name for name in scalars if name.startswith("learning rate/")}
    assert rates == {"learning rate/0.003 at most", "learning rate/0.0015 at most"}
    assert len(images) == 4
    assert all([step for step, _ in shown] == [9, 12] for shown in images.values())


def test_a_picture_shows_photo_truth_and_prediction(whole):
    from PIL import Image

    _, images = events(whole[0])
    name = next(iter(images))
    shown = Image.open(io.BytesIO(images[name][0][1]))
    assert shown.size == (3 * 48, 40)
    photo, truth, _ = (shown.crop((48 * at, 0, 48 * at + 48, 40)).convert("L") for at in range(3))
    # Bright ground below a dark sky, under labels whose colours are nearly black.
    assert photo.getpixel((24, 38)) > 3 * photo.getpixel((24, 5))
    assert truth.getpixel((24, 38)) < photo.getpixel((24, 38)) / 2


def test_without_tensorboard_one_line_says_so(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run(data, tmp_path / "run", STANDSTILL)
    assert capsys.readouterr().err.count("TensorBoard") == 1
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.fixture(scope="module")
def early(data, tmp_path_factory):
    """A finished run that ended before its last epoch."""
    out = tmp_path_factory.mktemp("runs") / "early"
    run(data, out, STANDSTILL)
    return out


def test_a_run_without_progress_ends_early_also_when_it_is_resumed(early, data, tmp_path):
    """The first validation is the best: after two more the run ends, whether it was killed between them or not."""
    killed(data, tmp_path / "killed", 8, STANDSTILL)
    run(data, tmp_path / "killed", STANDSTILL, resume=True)
    for out in (early, tmp_path / "killed"):
        rows = metrics(out)
        assert [row["epoch"] for row in rows] == ["1", "2", "3"]
        assert [row["note"] for row in rows] == ["", "", "stopped early: 2 validations without a better mIoU"]
        assert "stopped early: 2 validations without a better mIoU" in (out / "report.html").read_text()
    states = [torch.load(out / CHECKPOINT, weights_only=True)["state_dict"] for out in (early, tmp_path / "killed")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_finished_run_that_is_resumed_has_its_report_remade_and_nothing_else(data, whole, early, monkeypatch):
    monkeypatch.setattr(Trainee, "training_step", lambda *_: pytest.fail("a step was made"))
    for out, recipe in ((whole[0], RECIPE), (early, STANDSTILL)):
        kept = ["metrics.csv", CHECKPOINT, "model.safetensors", "config.json"]
        before = {name: (out / name).read_bytes() for name in kept}
        (out / "report.html").unlink()
        run(data, out, recipe, resume=True)
        assert {name: (out / name).read_bytes() for name in kept} == before
        assert (out / "report.html").is_file()


def terminated(*_, **__):
    """The signal, as SLURM sends it."""
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL, "it would end the tests"
    signal.raise_signal(signal.SIGTERM)
    pytest.fail("the run went on")


@pytest.mark.parametrize("place", ["step", "validation"])
def test_sigterm_ends_a_run_at_once_and_leaves_its_checkpoint(data, tmp_path, monkeypatch, place, capsys):
    out = tmp_path / "run"
    killed(data, out, 5)
    before = (out / CHECKPOINT).read_bytes()
    if place == "step":
        monkeypatch.setattr(Trainee, "training_step", terminated)
    else:
        monkeypatch.setattr(keeping, "evaluate", terminated)
    with pytest.raises(SystemExit) as ended:
        run(data, out, resume=True)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    epoch = 1 if place == "step" else 2  # the third is the first to be judged
    assert f"stopped; --resume goes on after epoch {epoch}\n" in capsys.readouterr().err
    assert ((out / CHECKPOINT).read_bytes() == before) == (place == "step")
    assert torch.load(out / CHECKPOINT, weights_only=True)["global_step"] == 3 * epoch
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_the_command_ends_with_143_on_sigterm(data, tmp_path):
    """`docker stop` and SLURM tell from it that the program ended because it was asked to."""
    (tmp_path / "toy.yaml").write_text(json.dumps({**RECIPE, "schedule": {"epochs": 10_000}}))
    command = "from atrous.cli.main import main; main()"
    options = ["--data", data, "--out", tmp_path / "run", "--workers", "0", "--device", "cpu"]
    child = subprocess.Popen([sys.executable, "-c", command, "train", tmp_path / "toy.yaml", *options], stderr=-1)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / CHECKPOINT).exists():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 143
    assert b"--resume goes on after epoch" in said
    assert b"Traceback" not in said
    epoch = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["global_step"] // 3
    assert len(metrics(tmp_path / "run")) in (epoch, epoch + 1)


def test_a_full_disk_under_tensorboard_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    board = Board(tmp_path / "tensorboard")
    assert board.open(0, 10)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board._writer, "add_scalar", full)
    with pytest.raises(AtrousError, match=r"tensorboard: cannot be written: No space left on device"):
        board.add(1, {"loss": 0.5})
    board.close()
