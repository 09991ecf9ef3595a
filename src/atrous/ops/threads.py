"""Spreads a numba loop over torch's number of threads.

The kernels release the GIL, so a thread pool serves: unlike numba's own threading layers it may be used from
several Python threads at once and needs no further library.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="atrous-ops")


def split(count: int, work: Callable[[int, int], Any]) -> list[Any]:
    """Calls `work(start, stop)` over contiguous parts of `range(count)`, one a thread; the results in order."""
    threads = max(1, min(torch.get_num_threads(), count))
    if threads == 1:
        return [work(0, count)]
    bounds = [count * index // threads for index in range(threads + 1)]
    pool = _pool(threads - 1)
    first, *rest = pairwise(bounds)
    others = [pool.submit(work, *part) for part in rest]
    return [work(*first), *(other.result() for other in others)]
