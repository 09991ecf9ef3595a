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
from typing import Any, NamedTuple

import torch

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _OpenMP(NamedTuple):
    """What GCC's compiler makes of a parallel region; LLVM's and Intel's OpenMP have both functions, too."""

    start: Callable[[Any, None, int], None]  # (body, data, threads): body(data) in all threads but the caller's
    end: Callable[[], None]  # waits for them


@cache
def _openmp() -> _OpenMP | None:
    try:
        library = ctypes.CDLL(None)
        start, end = library.GOMP_parallel_start, library.GOMP_parallel_end
    except (OSError, AttributeError, TypeError):
        return None
    start.argtypes, start.restype = [_BODY, ctypes.c_void_p, ctypes.c_uint], None
    end.argtypes, end.restype = [], None
    return _OpenMP(start, end)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="atrous-ops")


def split(count: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Calls `work(start, stop)` over contiguous parts of `range(count)`, one a thread; the results in order."""
    threads = max(1, min(torch.get_num_threads(), count))
    if threads == 1:
        return [work(0, count)]
    parts = list(pairwise(count * index // threads for index in range(threads + 1)))
    openmp = _openmp()
    if openmp is None:
        others = [_pool(threads - 1).submit(work, *part) for part in parts[1:]]
        return [work(*parts[0]), *(other.result() for other in others)]
    left: list[tuple[int, tuple[int, int]]] = list(enumerate(parts))
    found: list[Any] = [None] * threads
    errors: list[BaseException] = []

    def take() -> None:
        # A team may be smaller than was asked for: each of its threads takes parts until none is left.
        while True:
            try:
                index, part = left.pop()
            except IndexError:
                return
            found[index] = work(*part)

    def body(_: int | None) -> None:
        try:
            take()
        except BaseException as error:  # raised below: nothing may pass through OpenMP
            errors.append(error)

    others_body = _BODY(body)
    try:
        openmp.start(others_body, None, threads)
        # Not as a callback: where a signal's handler raises at its beginning, ctypes would lose what is raised.
        take()
    finally:
        openmp.end()
    if errors:
        raise errors[0]
    return found
