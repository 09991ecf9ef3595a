"""What a person sees while a run trains."""

import io
import re
import time
from types import SimpleNamespace

import pytest

from atrous.training import live
from atrous.training.live import Live, duration


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: self.now))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def trainer(step, accumulate=2):
    """Of ten epochs of seven batches, two of which make a step: four steps an epoch, the last of one batch."""
    return SimpleNamespace(
        estimated_stepping_batches=40,
        num_training_batches=7,
        accumulate_grad_batches=accumulate,
        global_step=step,
        current_epoch=step // 4,
        world_size=1,
    )


def train(seen, steps, clock, seconds):
    """Steps of two photos each, that take so long."""
    seen.on_train_start(trainer(steps.start), None)
    seen.on_train_epoch_start(trainer(steps.start), None)
    for step in steps:
        clock.now += seconds
        seen.on_train_batch_end(trainer(step + 1), SimpleNamespace(last_loss=0.5), None, [[0, 0]], 0)


def row(epoch, **scores):
    return {"epoch": epoch, "loss": 0.5, "images_per_second": 2.0, **scores}


def test_the_time_left_is_that_of_all_epochs_with_what_validation_takes(monkeypatch):
    clock, seen = Clock(monkeypatch), Live()
    assert seen.left() == "?"
    train(seen, range(4), clock, 2.0)
    assert seen.left() == "1 min 12 s"  # 36 steps of 2 seconds
    clock.now += 8  # a validation
    assert seen.left() == "2 min 24 s"


def test_a_resumed_run_does_not_count_what_it_did_before_as_done_now(monkeypatch):
    clock, seen = Clock(monkeypatch), Live()
    train(seen, range(20, 24), clock, 2.0)
    assert seen.left() == "32 s"


def test_a_log_file_gets_a_line_an_epoch_without_control_characters(monkeypatch, capsys):
    clock, seen = Clock(monkeypatch), Live()
    train(seen, range(4), clock, 2.0)
    seen.epoch(row(1), best=False)
    for done in range(1, 4):
        seen.judging(done, 3)
    seen.epoch(row(2, miou=0.4321), best=True)
    seen.epoch(row(3, miou=0.4), best=False)
    assert capsys.readouterr().err == (
        "epoch 1/10: loss 0.5000, 2.0 images/s, 1 min 12 s left\n"
        "epoch 2/10: loss 0.5000, mIoU 43.21% (the best so far), 2.0 images/s, 1 min 12 s left\n"
        "epoch 3/10: loss 0.5000, mIoU 40.00%, 2.0 images/s, 1 min 12 s left\n"
    )


def test_a_terminal_gets_a_bar_over_the_run_and_one_while_photos_are_judged(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    clock, stderr = Clock(monkeypatch), Terminal()
    monkeypatch.setattr("sys.stderr", stderr)
    seen = Live()
    train(seen, range(4), clock, 2.0)
    seen.epoch(row(1), best=False)  # not judged: the bar tells enough
    seen.judging(1, 2)
    time.sleep(0.3)  # the bars are drawn ten times a second
    seen.judging(2, 2)
    seen.epoch(row(2, miou=0.4321), best=True)
    clock.now += 2
    seen.on_train_batch_end(trainer(8), SimpleNamespace(last_loss=0.5), None, [[0, 0]], 0)
    seen.on_exception(trainer(8), None, KilledError())
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stderr.getvalue())
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    assert any(re.fullmatch(r"epoch 2/10 \S+ loss 0.5000, 1.0 images/s, 1 min 12 s left", line) for line in lines)
    assert any(re.fullmatch(r"judging +\S+ 1/2 photos", line) for line in lines)
    assert "epoch 2/10: loss 0.5000, mIoU 43.21% (the best so far), 2.0 images/s, 1 min 12 s left" in lines
    assert not any(line.startswith("epoch 1/10:") for line in lines)
    assert any("mIoU 43.21%, " in line and "━" in line for line in lines)
    assert stderr.getvalue().endswith("\x1b[2K")  # the bar is gone, and the cursor is back at its place
    assert stderr.getvalue().rindex("\x1b[?25h") > stderr.getvalue().rindex("\x1b[?25l")


class KilledError(Exception):
    pass


def test_only_the_first_of_several_processes_speaks(monkeypatch, capsys):
    monkeypatch.setattr(live, "is_first", lambda: False)
    seen = Live()
    seen.say("something")
    seen.epoch(row(1), best=False)
    seen.judging(1, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (1234, "20 min"), (3725, "1 h 02 min")],
)
def test_durations_are_words(seconds, words):
    assert duration(seconds) == words
