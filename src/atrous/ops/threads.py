"""Spreads a numba loop over torch's number of threads.

They are torch's own OpenMP threads where its OpenMP is GCC's, as on Linux: after each of its operators they wait for
the next one at full speed, and threads beside them would have to share the cores with that waiting. Elsewhere it is a
pool: unlike numba's own threading layers both may be used from several Python threads at once.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> Callable[..., None] | None:
    """GCC's `GOMP_parallel(body, data, threads, flags)`, which calls `body(data)` once in each thread of a team."""
    try:
        run = ctypes.CDLL(None).GOMP_parallel
    except (OSError, AttributeError, TypeError):
        return None
    run.argtypes, run.restype = [_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return run


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="atrous-ops")


def split(count: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Calls `work(start, stop)` over contiguous parts of `range(count)`, one a thread; the results in order."""
    threads = max(1, min(torch.get_num_threads(), count))
    if threads == 1:
        return [work(0, count)]
    parts = list(pairwise(count * index // threads for index in range(threads + 1)))
    run = _openmp()
    if run is None:
        others = [_pool(threads - 1).submit(work, *part) for part in parts[1:]]
        return [work(*parts[0]), *(other.result() for other in others)]
    left: list[tuple[int, tuple[int, int]]] = list(enumerate(parts))
    found: list[Any] = [None] * threads
    errors: list[BaseException] = []

    def body(_: int | None) -> None:
        # A team may be smaller than was asked for: each of its threads takes parts until none is left.
        while True:
            try:
                index, part = left.pop()
            except IndexError:
                return
            try:
                found[index] = work(*part)
            except BaseException as error:  # raised below: nothing may pass through OpenMP
                errors.append(error)

    run(_BODY(body), None, threads, 0)
    if errors:
        raise errors[0]
    return found
