"""A run that is killed, again and again, at any moment."""

import csv
import json
import os
import signal
import sys

import numpy as np
import pytest
import torch

from atrous.training import CHECKPOINT, Recipe, train
from atrous.training.keeping import Keeper
from data_sets import sky_over_ground
from tiny_network import recipe, register_tiny
from together import SERVER

EPOCHS = 10
KILLS = 10
TIMED = {"seconds", "epoch_seconds", "images_per_second"}


class Counter:
    """Counts Python's calls and returns, and kills the process at one of them: no clock, so that any machine agrees."""

    def __init__(self, last: int = 0) -> None:
        self.count, self.last = 0, last

    def __call__(self, *_: object) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def run(data, out, anywhere=0, while_writing=0, counts=None):
    """Trains, or goes on, and dies at the so-many-th call of all, or of the next checkpoint's writing."""
    torch.set_num_threads(1)
    register_tiny()
    counter, epochs, written = Counter(anywhere), [], []
    plain_start, plain_checkpoint = Keeper.on_train_epoch_start, Keeper._checkpoint

    def begin(self, trainer, trainee):
        epochs.append(counter.count)
        plain_start(self, trainer, trainee)

    def checkpoint(self, trainer):
        inner = Counter(while_writing)
        sys.setprofile(inner)
        plain_checkpoint(self, trainer)
        sys.setprofile(counter)
        written.append(inner.count)

    Keeper.on_train_epoch_start, Keeper._checkpoint = begin, checkpoint
    sys.setprofile(counter)
    settings = Recipe.model_validate(
        recipe(schedule={"epochs": EPOCHS}, model={"name": "tiny", "options": {"dropout": 0.3}})
    )
    train(settings, data, out, resume=True, workers=0, device="cpu")
    sys.setprofile(None)
    if counts:
        counts.write_text(json.dumps({"epochs": epochs, "checkpoint": min(written)}))


def child(*arguments):
    process = SERVER.Process(target=run, args=arguments)
    process.start()
    process.join(200)
    assert process.exitcode is not None
    return process.exitcode


def history(out):
    with open(out / "metrics.csv", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_as_one_never_killed(tmp_path):
    """By the same command each time, whether anything was written yet or not; and nothing half-written stays."""
    (tmp_path / "data").mkdir()
    data = sky_over_ground(tmp_path / "data", {"train": 5, "val": 2})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert child(data, whole, 0, 0, tmp_path / "counts") == 0
    counts = json.loads((tmp_path / "counts").read_text())
    second, third = counts["epochs"][1:3]
    rng = np.random.default_rng(6)
    done = []
    for number in range(KILLS):
        starting = (int(rng.integers(1, second)), 0)  # or in the first epoch that it runs
        training = (int(rng.integers(second, third + (third - second) // 4)), 0)
        writing = (0, int(rng.integers(1, counts["checkpoint"])))
        moment = (starting, training, writing)[number % 3]
        assert child(data, killed, *moment) == -signal.SIGKILL
        done.append(len(history(killed)) if (killed / "metrics.csv").exists() else 0)
    assert done[0] == 0, "none was killed before its first checkpoint"
    assert done[-1] >= 3, "none got anywhere"
    assert child(data, killed) == 0

    states = [torch.load(out / CHECKPOINT, weights_only=True)["state_dict"] for out in (whole, killed)]
    assert states[0].keys() == states[1].keys()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    assert history(killed) == history(whole)
    assert len(history(whole)) == EPOCHS
    register = {path.name for path in whole.iterdir()}
    assert {path.name for path in killed.iterdir()} == register
    assert not [name for name in register if name.startswith(".")]
    cards = [json.loads((out / "config.json").read_text())["provenance"] for out in (whole, killed)]
    assert cards[0]["scores"] == cards[1]["scores"]
    assert cards[0]["epoch"] == cards[1]["epoch"]
