"""Writes what a benchmark measured to `benchmarks/results/`, with the commit, the machine and the date.

Times lie in a folder for each kind of processor, as `amd-epyc-avx512-bf16/NAME.json`; scores, which are the same on
all, in `NAME.json`.
"""

import json
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import atrous
from atrous.inference.machine import processor

RESULTS = Path(__file__).parent / "results"


def record(name: str, measured: dict[str, Any], device: str | None = None) -> Path:
    """Times, which replace an earlier result of that name and kind of device: the processor, or a GPU by its name."""
    return _write(RESULTS / folder(device or processor()) / f"{name}.json", measured)


def record_scores(name: str, measured: dict[str, Any]) -> Path:
    """What does not depend on the machine; replaces an earlier result of that name."""
    return _write(RESULTS / f"{name}.json", measured)


def folder(device: str) -> str:
    """A device's name as a folder's: Intel(R) Xeon(R) Processor (amx_bf16) is intel-xeon-amx-bf16."""
    words = re.sub(r"\((r|tm)\)|\b(processor|cpu)\b", " ", device.lower())
    return "-".join(re.findall(r"[a-z0-9]+", words))


def _write(path: Path, measured: dict[str, Any]) -> Path:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS.parent)
    result = {
        "measured": measured,
        "commit": head.stdout.strip() or None,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": {"processor": processor(), "threads": torch.get_num_threads(), "system": platform.platform()},
        "versions": {"atrous": atrous.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
