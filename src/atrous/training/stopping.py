"""SIGTERM while Lightning trains, and in several processes."""

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

from atrous import stopping
from atrous.training.parallel import is_grouped


@contextmanager
def ending_on_sigterm() -> Iterator[None]:
    """`atrous.stopping`'s, for a run that may be one of several processes."""
    with stopping.ending_on_sigterm(_end):
        yield


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
