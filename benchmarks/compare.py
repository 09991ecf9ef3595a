"""Ours and the peer by turns in one process, so that whatever else the machine does falls on both."""

import ctypes
import statistics
import time
from collections.abc import Callable
from typing import Any


def by_turns(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    turns: int = 15,
    warm: tuple[Callable[[], Any], Callable[[], Any]] | None = None,
    before: tuple[Callable[[], Any], Callable[[], Any]] | None = None,
) -> dict[str, float]:
    """Calls both once, or `warm`, then both `turns` times; medians in ms, and how many times ours is faster.

    Args:
        before: called ahead of every measured call, without being measured.
    """
    for call in warm or (ours, theirs):
        call()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for call, prepare, kept in zip((ours, theirs), before or (None, None), times, strict=True):
            if prepare:
                prepare()
            begun = time.perf_counter()
            call()
            kept.append(1e3 * (time.perf_counter() - begun))
    mine, other = map(statistics.median, times)
    return {"ours_ms": round(mine, 3), "theirs_ms": round(other, 3), "times_faster": round(other / mine, 2)}


def line(what: str, measured: dict[str, float], peer: str) -> str:
    """One comparison as a line to print."""
    return (
        f"{what}: {measured['ours_ms']:.2f} ms, {peer} {measured['theirs_ms']:.2f} ms, "
        f"{measured['times_faster']:.1f} times faster"
    )


def as_glibc_is() -> None:
    """Undoes `keep_freed_memory`: the thresholds at which glibc's own settle once large tensors have been freed."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(-4, 65536)  # how many blocks may be the system's own
        library.mallopt(-3, 32 << 20)  # from this size on a block is
        library.mallopt(-1, 64 << 20)  # and so much may lie unused
        library.malloc_trim(0)
