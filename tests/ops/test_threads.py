"""The parts of a loop that go to threads."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from atrous.ops import threads
from atrous.ops.threads import split

needs_openmp = pytest.mark.skipif(threads._openmp() is None, reason="torch's OpenMP is not GCC's here")


@pytest.fixture(params=["torch's own", "pool"])
def of_either_kind(request, monkeypatch):
    if request.param == "pool":
        monkeypatch.setattr(threads, "_openmp", lambda: None)


@pytest.fixture(params=[1, 2, 5])
def count(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("of_either_kind")
@pytest.mark.parametrize("rows", [1, 3, 4, 1001])
def test_parts_cover_the_rows_in_order(count, rows):
    parts = split(rows, lambda start, stop: (start, stop))
    assert len(parts) == min(count, rows)
    assert [row for part in parts for row in range(*part)] == list(range(rows))
    assert all(start < stop for start, stop in parts)


@pytest.mark.usefixtures("of_either_kind")
def test_parts_run_at_the_same_time():
    """Each waits for the other, so that one after the other they would never end."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    barrier = threading.Barrier(2, timeout=30)
    try:
        assert split(2, lambda start, stop: barrier.wait() >= 0) == [True, True]
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("of_either_kind", "count")
def test_an_error_in_any_part_is_raised_once_all_have_ended():
    ended = []

    def work(start, stop):
        if stop == 10:
            raise ValueError(f"row {start}")
        ended.append(start)

    with pytest.raises(ValueError, match="row"):
        split(10, work)
    assert len(ended) == torch.get_num_threads() - 1
    assert split(10, lambda start, stop: stop)[-1] == 10


@needs_openmp
def test_a_signal_in_the_midst_of_it_is_not_lost():
    """What its handler raises goes through, whichever line it meets. (In a pool the standard library may lock up.)"""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    lost, rounds = [], 200
    former = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(InterruptedError("the alarm")))
    try:
        for index in range(rounds):
            with pytest.raises(InterruptedError, match="the alarm"):  # noqa: PT012
                signal.setitimer(signal.ITIMER_REAL, 1e-4 * (1 + index % 7))
                end = time.monotonic() + 10
                while time.monotonic() < end:
                    split(2, lambda start, stop: stop)
                lost.append(index)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
        torch.set_num_threads(before)
    assert lost == []
    assert split(2, lambda start, stop: stop)[-1] == 2


@pytest.mark.usefixtures("of_either_kind")
def test_python_threads_may_split_at_once():
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda n: sum(stop - start for start, stop in split(n, lambda *part: part)), range(1, 200))
        )
    assert found == list(range(1, 200))


@needs_openmp
def test_where_torch_has_openmp_no_other_threads_are_made(monkeypatch):
    """They would share the cores with torch's, which wait for their next operator at full speed."""
    monkeypatch.delattr(threads, "_pool")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert split(3, lambda start, stop: stop) == [1, 2, 3]
    finally:
        torch.set_num_threads(before)
