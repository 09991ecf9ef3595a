"""SIGTERM ends a run; tests/training/test_keeping.py shows what it leaves."""

import os
import signal
import threading

import pytest

from atrous.training import stopping
from atrous.training.stopping import ending_on_sigterm


def test_the_signal_is_an_exit_within_the_block_alone():
    with pytest.raises(SystemExit) as ended, ending_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_block_in_a_block_leaves_the_outer_ones_handler():
    with ending_on_sigterm():
        with ending_on_sigterm():
            pass
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_a_programs_own_handler_is_kept():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with ending_on_sigterm():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_a_run_in_another_thread_leaves_signals_alone():
    """Only the main thread may set handlers: a notebook's or a server's worker trains all the same."""
    done = []

    def work():
        with ending_on_sigterm():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.SIG_DFL]


def test_one_of_several_processes_ends_without_waiting_for_the_others(monkeypatch):
    class GoneError(BaseException):
        pass

    def gone(code):
        raise GoneError(code)

    monkeypatch.setattr(stopping, "is_grouped", lambda: True)
    monkeypatch.setattr(os, "_exit", gone)
    with pytest.raises(GoneError, match="143"), ending_on_sigterm():
        signal.raise_signal(signal.SIGTERM)
