"""Which engine is fastest here: measured once for a machine, versions, a model and a size of photo, then remembered.

The memory is `engines.json` beside the fetched models. It may be deleted at any time, and one that cannot be read or
written is as good as none.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.files import replacing
from atrous.inference.engines.names import FLOAT32, INT8, Engine, versions
from atrous.inference.machine import processor
from atrous.models import SegmentationModel
from atrous.weights.zoo.cache import cache_directory, writing

_ROUNDS = 3
_LONGEST = 10.0  # seconds in all: large photos on slow machines get fewer rounds


def size_class(height: int, width: int) -> int:
    """Photos of one class differ by less than four times in their pixels."""
    return (height * width).bit_length() // 2


def situation(model: SegmentationModel, device: torch.device, names: list[str], size: int) -> str:
    """What a measurement holds for, in words."""
    config = json.dumps(getattr(model, "config", {}), sort_keys=True)
    pixels = f"below {2 ** (2 * size + 1)} pixels"
    bits = ["8 bits"] if INT8 in names else ["float32"] if set(names) <= set(FLOAT32) else []
    return " | ".join([_machine(device), versions(names), type(model).__name__, config, pixels, *bits])


def recall(key: str, names: list[str]) -> str | None:
    """The engine that was fastest, if it is known and among `names`."""
    found = _read().get(key)
    name = found.get("engine") if isinstance(found, dict) else None
    return name if name in names else None


def measure(key: str, engines: Mapping[str, Engine], x: Tensor) -> str:
    """The name of the engine that is fastest on x; it is written to the memory."""
    best = _shortest(engines, x)
    fastest = min(best, key=best.__getitem__)
    milliseconds = {name: round(seconds * 1e3, 2) for name, seconds in best.items()}
    with contextlib.suppress(AtrousError):  # a place that cannot be written costs another measurement, no more
        path = _memory()
        with writing(path), replacing(path) as unfinished:
            known = {**_read(), key: {"engine": fastest, "milliseconds": milliseconds}}
            unfinished.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    return fastest


def _shortest(engines: Mapping[str, Engine], x: Tensor) -> dict[str, float]:
    """Seconds of each engine's best run: what else the machine does only ever adds to a run."""
    begun = time.perf_counter()
    best = {}
    for name, engine in engines.items():
        try:
            engine.coarse_logits(x)  # the first run prepares kernels
        except Exception:
            if name == "torch":
                raise
            continue  # one that starts and cannot run is as good as one that does not start
        best[name] = _seconds(engine, x)
    for _ in range(_ROUNDS - 1):
        for name in best:
            if time.perf_counter() - begun < _LONGEST:
                best[name] = min(best[name], _seconds(engines[name], x))
    return best


def _seconds(engine: Engine, x: Tensor) -> float:
    begun = time.perf_counter()
    engine.coarse_logits(x).cpu()
    return time.perf_counter() - begun


def _memory() -> Path:
    return cache_directory().parent / "engines.json"


def _read() -> dict[str, Any]:
    try:
        known = json.loads(_memory().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"
