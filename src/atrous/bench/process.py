"""One contestant in a process of its own: `python -m atrous.bench.process FILE`, the file saying what to run.

Only what the contestant itself needs is imported, so that the peak of memory is its own.
"""

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

Photo: TypeAlias = NDArray[np.uint8]
Run: TypeAlias = Callable[[list[Photo]], list[NDArray[Any]]]
"""uint8 H×W×3 photos of one size to their H×W labels."""

_ROUNDS = (5, 200)  # at least and at most


def main(path: str) -> None:
    """Measures; leaves the labels and the measurement where the file says."""
    spec: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    photo: Photo = np.load(spec["photo"])
    begun = time.perf_counter()
    room, _, name = spec["start"].partition(":")
    run: Run = getattr(import_module(room), name)(spec)
    [labels] = run([photo])
    first = time.perf_counter() - begun
    np.save(spec["labels"], np.asarray(labels, dtype=np.uint8))
    run([photo])  # engines settle in their first runs
    seconds = _times(lambda: run([photo]), spec["seconds"])
    measured = {"first": first, "seconds": seconds, "peak_bytes": _peak(spec["device"])}
    batch = [photo] * spec["batch"]
    run(batch)
    together = _times(lambda: run(batch), spec["seconds"])
    measured["photos_per_second"] = len(batch) / float(np.median(together))
    Path(spec["measured"]).write_text(json.dumps(measured), encoding="utf-8")


def _times(call: Callable[[], object], seconds: float) -> list[float]:
    least, most = _ROUNDS
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return times


def _peak(device: str) -> int:
    """The most memory so far, in bytes: of the accelerator where there is one, else of this process."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():
        # Not what getrusage gives: on Linux that begins at the size of the process that started this one.
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Exception as fault:
        reason = " ".join(str(fault).split())
        sys.exit(reason if isinstance(fault, AtrousError) else f"{type(fault).__name__}: {reason}")
