"""Reading the next photos while the network works on this one, in bounded memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from atrous.errors import AtrousError
from atrous.inference.network import Image

S = TypeVar("S")

_THREADS = min(4, os.cpu_count() or 1)
_PIXELS = 1 << 26  # 64 million pixels, 192 MB


def read_ahead(
    sources: Iterable[S], read: Callable[[S], Image], count: int, pixels: int = _PIXELS
) -> Iterator[tuple[S, Image | AtrousError]]:
    """Reads the sources in threads and gives them back in order; what cannot be read comes as its error.

    No more than `count` photos, and roughly no more than `pixels` pixels, are read before they are asked for.
    A photo's size is not known before it is read, so one that is being read is taken to be as large as the
    largest so far, and the first is read alone, on the caller's thread: a list of very large photos is held one at a
    time.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="atrous-read") as pool:
        waiting: deque[tuple[S, Future[Image | AtrousError]]] = deque()
        remaining = iter(sources)
        largest = 0
        try:
            while largest == 0:
                try:
                    source = next(remaining)
                except StopIteration:
                    return
                result = _attempt(read, source)
                largest = _pixels(result)
                yield source, result
                del source, result  # else the last photo would be held while the next is read
            while True:
                while _has_room([future for _, future in waiting], largest, count, pixels):
                    try:
                        source = next(remaining)
                    except StopIteration:
                        break
                    waiting.append((source, pool.submit(_attempt, read, source)))
                if not waiting:
                    return
                source, future = waiting.popleft()
                result = future.result()
                largest = max(largest, _pixels(result))
                del future
                yield source, result
                del source, result  # else the last photo would be held while the next is read
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _attempt(read: Callable[[S], Image], source: S) -> Image | AtrousError:
    try:
        return read(source)
    except AtrousError as error:
        return error


def _has_room(waiting: list[Future[Image | AtrousError]], largest: int, count: int, pixels: int) -> bool:
    if not waiting:
        return True
    held = 0
    for future in waiting:
        result = future.result() if future.done() else None
        held += largest if result is None else _pixels(result)
    return len(waiting) < count and held + largest <= pixels


def _pixels(result: Image | AtrousError) -> int:
    return 0 if isinstance(result, AtrousError) else result.shape[0] * result.shape[1]
