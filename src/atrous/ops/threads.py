"""Spreads a numba loop over torch's number of threads.

The kernels release the GIL, so a thread pool serves: unlike numba's own threading layers it may be used from
several Python threads at once and needs no further library.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="atrous-ops")


def split(count: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Calls `work(start, stop)` over contiguous parts of `range(count)`, one a thread, and gives the results in order."""
    threads = max(1, min(torch.get_num_threads(), count))
    if threads == 1:
        return [work(0, count)]
    bounds = [count * index // threads for index in range(threads + 1)]
    pool = _pool(threads - 1)
    others = [pool.submit(work, start, stop) for start, stop in zip(bounds[1:-1], bounds[2:], strict=True)]
    first = work(bounds[0], bounds[1])
    return [first, *(other.result() for other in others)]
