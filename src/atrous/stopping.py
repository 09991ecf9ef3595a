"""SIGTERM, by which SLURM and `docker stop` warn a program before they kill it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], Any]


def end(number: int, _: FrameType | None) -> None:
    """Ends the program by a `SystemExit` of 143, which tidies up as exceptions do."""
    raise SystemExit(128 + number)


@contextmanager
def ending_on_sigterm(handler: Handler = end) -> Iterator[None]:
    """Within the block SIGTERM ends the program at once.

    Without it Python's `finally` blocks would not run, and in a container, as its first process, the signal would be
    ignored. A program that has a handler of its own keeps it. Outside the main thread nothing is done.
    """
    former = signal.getsignal(signal.SIGTERM)
    ours = threading.current_thread() is threading.main_thread() and former in (signal.SIG_DFL, end)
    if ours:
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, former)
