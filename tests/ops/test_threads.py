"""The parts of a loop that go to threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from atrous.ops import threads
from atrous.ops.threads import split


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


@pytest.mark.usefixtures("of_either_kind")
def test_python_threads_may_split_at_once():
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda n: sum(stop - start for start, stop in split(n, lambda *part: part)), range(1, 200))
        )
    assert found == list(range(1, 200))


@pytest.mark.skipif("OpenMP 2" not in torch.__config__.parallel_info(), reason="torch has no OpenMP here")
def test_where_torch_has_openmp_no_other_threads_are_made(monkeypatch):
    """They would share the cores with torch's, which wait for their next operator at full speed."""
    monkeypatch.delattr(threads, "_pool")
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert split(3, lambda start, stop: stop) == [1, 2, 3]
    finally:
        torch.set_num_threads(before)
