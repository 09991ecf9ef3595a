"""SIGTERM, by which SLURM and `docker stop` warn a run before they kill it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from atrous.training.parallel import is_grouped


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM ends the program at once by a `SystemExit` of 143, which tidies up as exceptions do.

    Without it Python's `finally` blocks would not run, and in a container, as its first process, the signal would be
    ignored. A program that has a handler of its own keeps it. Outside the main thread nothing is done.
    """
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class EndOnSigterm(Callback):  # type: ignore[misc]
    """Keeps that so while Lightning trains: its own handler waits for the epoch's end, or for the other processes."""

    def __init__(self) -> None:
        self._ours = signal.getsignal(signal.SIGTERM) is _end

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self._ours and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, partial(_end, launcher=trainer.strategy.launcher))


def _end(number: int, frame: FrameType | None, launcher: Any = None) -> None:
    """Ends the program, and the processes that Lightning started beside it."""
    if launcher is not None:
        launcher.kill(number)
    if is_grouped():
        # To tidy up is to wait for the others, which wait for this one within their next sum: until it is gone.
        os._exit(128 + number)
    raise SystemExit(128 + number)
