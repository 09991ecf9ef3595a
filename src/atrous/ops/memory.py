"""What the C library does with memory that tensors give back."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # mallopt's names for what it sets, in malloc.h


def keep_freed_memory() -> None:
    """From now on this process keeps the memory that it has freed, for its next tensors.

    glibc gives large blocks back to the system at once, which then hands out pages of zeros one by one: on the CPU
    that is a quarter of a training step, a third of predicting a photo, half of a large one's tiles. The price is that
    the process stays as large as it once was, and somewhat larger than it would have been. It is for a process that
    has this one work to do, as a command has. Nothing happens where the C library is another one.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_ARENA_MAX, 1)
