"""What a person sees while a run trains: a bar on a terminal, a line an epoch in a log file."""

import math
import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from atrous.training.module import Trainee
from atrous.training.parallel import is_first

_REFRESHED = 0.25  # seconds: to read a loss is to wait for the accelerator


class Live(Callback):  # type: ignore[misc]
    """Epoch, loss, scores, pace and the time that the whole run still takes, on stderr.

    On a terminal a bar over all epochs, another one while photos are judged, and above them a line for each epoch that
    was judged; elsewhere a line for each epoch. Of several processes the first one alone tells.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._training: TaskID | None = None
        self._judging: TaskID | None = None
        self._steps = self._epochs = self._first = self._done = 0
        self._began = self._epoch_began = self._refreshed = 0.0
        self._images = 0
        self._miou = ""

    def on_train_start(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        self._steps = int(trainer.estimated_stepping_batches)
        self._epochs = math.ceil(
            self._steps / math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        )
        self._began, self._first = time.monotonic(), trainer.global_step
        if _on_terminal():
            self._training = self._open().add_task("training", total=self._steps, completed=self._first, told="")

    def on_train_epoch_start(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        self._epoch_began, self._images = time.monotonic(), 0

    def on_train_batch_end(
        self, trainer: lightning.Trainer, trainee: Trainee, outputs: Any, batch: Any, index: int
    ) -> None:
        self._done = trainer.global_step
        self._images += len(batch[0]) * trainer.world_size
        now = time.monotonic()
        if self._training is None or now - self._refreshed < _REFRESHED:
            return
        self._refreshed = now
        pace = self._images / max(1e-9, now - self._epoch_began)
        parts = [f"loss {float(trainee.last_loss):.4f}", self._miou, f"{pace:.1f} images/s", f"{self.left()} left"]
        self._open().update(
            self._training,
            description=f"epoch {trainer.current_epoch + 1}/{self._epochs}",
            completed=self._done,
            told=", ".join(part for part in parts if part),
        )

    def on_train_end(self, trainer: lightning.Trainer, trainee: Trainee) -> None:
        self._close()

    def on_exception(self, trainer: lightning.Trainer, trainee: Trainee, exception: BaseException) -> None:
        self._close()

    def left(self) -> str:
        """How long the whole run still takes, if it goes on as it went, validation included; "?" at its very start."""
        done = self._done - self._first
        if done <= 0:
            return "?"
        return duration((time.monotonic() - self._began) / done * (self._steps - self._done))

    def epoch(self, row: Mapping[str, Any], best: bool) -> None:
        """An epoch has ended.

        Args:
            row: its line of metrics.csv.
            best: whether its model is the best so far.
        """
        if "miou" in row:
            self._miou = f"mIoU {row['miou']:.2%}"
        elif self._training is not None:
            return
        parts = [f"loss {row['loss']:.4f}"]
        if "miou" in row:
            parts.append(self._miou + (" (the best so far)" if best else ""))
        parts += [f"{row['images_per_second']:.1f} images/s", f"{self.left()} left"]
        self.say(f"epoch {row['epoch']}/{self._epochs}: {', '.join(parts)}")

    def judging(self, done: int, total: int) -> None:
        """So many photos of a validation are judged."""
        if not _on_terminal():
            return
        progress = self._open()
        if self._judging is None:
            self._judging = progress.add_task("judging", total=total, told=f"0/{total} photos")
        progress.update(self._judging, completed=done, told=f"{done}/{total} photos")
        if done == total:
            progress.remove_task(self._judging)
            self._judging = None
            if self._training is None:
                self._close()

    def say(self, text: str) -> None:
        """One line."""
        if not is_first():
            return
        if self._progress:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _open(self) -> Progress:
        if self._progress is None:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}", markup=False)
            self._progress = Progress(
                *columns,
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._progress.start()
        return self._progress

    def _close(self) -> None:
        if self._progress:
            self._progress.stop()
        self._progress = self._training = self._judging = None


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes < 10 else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _on_terminal() -> bool:
    return sys.stderr.isatty() and is_first()
