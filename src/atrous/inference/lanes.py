"""Lanes: threads that predict a photo each, on an equal share of torch's threads.

Two photos side by side on a thread each are done sooner than one after the other on two threads: no thread waits at the
end of a layer for another, nor while a photo's few steps of Python run.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 4  # each holds a photo's activations
_opening = threading.Lock()
_thread = threading.local()


def lanes_here() -> int:
    """How many lanes there are, for a thread that is one of them; 1 for any other."""
    count: int = getattr(_thread, "lanes", 1)
    return count


def most_here() -> int:
    """How many lanes the calling thread would open: one for each of torch's threads, within bounds."""
    return 1 if lanes_here() > 1 else min(_MOST, torch.get_num_threads())


def side_by_side(items: Iterator[T], work: Callable[[T], R], alone: Callable[[T], bool]) -> Iterator[tuple[T, R]]:
    """Each item with its `work`, in order; several at a time in lanes, where torch has several threads.

    No more than two items a lane, and one more at the beginning, are taken before they are asked for.

    Args:
        alone: whether the work is done on the caller's thread, with all of torch's, and nothing beside it. So it is
            for an only item too.
    """
    count = most_here()
    for item in items:
        if count == 1 or alone(item):
            yield item, work(item)
            del item
            continue
        following = next(items, None)
        if following is None:
            yield item, work(item)
        else:
            yield from _in_lanes(chain([item, following], items), work, alone, count)
        return


def _in_lanes(
    items: Iterator[T], work: Callable[[T], R], alone: Callable[[T], bool], count: int
) -> Iterator[tuple[T, R]]:
    waiting: deque[tuple[T, Future[R]]] = deque()

    def first() -> tuple[T, R]:
        item, future = waiting.popleft()
        return item, future.result()

    with _pool(count) as pool:
        for item in items:
            if alone(item):
                while waiting:
                    yield first()
                yield item, work(item)
            else:
                waiting.append((item, pool.submit(work, item)))
            del item
            if len(waiting) == 2 * count:
                yield first()
        while waiting:
            yield first()


@contextmanager
def _pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many lanes; at the end it waits for those that are at work."""
    threads = torch.get_num_threads()
    ready = threading.Barrier(count + 1)

    def enter() -> None:
        torch.get_num_threads()  # at its first use of torch a thread takes the number that any has set last
        torch.set_num_threads(threads // count)
        _thread.lanes = count
        ready.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="atrous-lane", initializer=enter)
    try:
        with _opening:
            for _ in range(count):
                pool.submit(lanes_here)  # a thread begins with the first work that finds the others busy
            ready.wait()
            torch.set_num_threads(threads)  # for threads that begin later, not for the lanes
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
