"""A data set in memory: decoded once, for as many photos as fit."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import SegmentationDataset

Array = NDArray[np.uint8]

_SHARE = 0.5


class CachedDataset(Sequence[tuple[Array, Array]]):
    """The pairs of a data set: the first ones from memory, those that did not fit decoded each time.

    Made before a loader's workers are forked, it is shared among them. The arrays are read-only: a transform that wrote
    into them would change every later epoch.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        megabytes: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Decodes in threads.

        Args:
            megabytes: how much may be kept; half of the memory that is free now if not given.
            progress: called with (done, total) after each photo that is kept.

        Raises:
            DataError, ImageError: a photo or mask that cannot be read.
        """
        self.dataset = dataset
        self.pairs: list[tuple[Array, Array]] = []
        left = free_memory() * _SHARE if megabytes is None else megabytes * 1e6
        ahead = os.cpu_count() or 1
        with ThreadPoolExecutor(ahead, thread_name_prefix="atrous-cache") as pool:
            for start in range(0, len(dataset), ahead):
                # A few at a time: what does not fit any more is not decoded in vain.
                for pair in pool.map(dataset.__getitem__, range(start, min(start + ahead, len(dataset)))):
                    left -= sum(array.nbytes for array in pair)
                    if left < 0:
                        return
                    for array in pair:
                        array.flags.writeable = False
                    self.pairs.append(pair)
                    if progress:
                        progress(len(self.pairs), len(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Array, Array]:  # type: ignore[override]
        return self.pairs[index] if 0 <= index < len(self.pairs) else self.dataset[index]


def free_memory() -> float:
    """Bytes that may still be taken, as far as the system tells, within a container's limit if there is one."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            free = next(float(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4e9
    try:
        with (
            open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit,
            open("/sys/fs/cgroup/memory.current", encoding="ascii") as used,
        ):
            return min(free, float(limit.read()) - float(used.read()))
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return free
