"""Writes what a benchmark measured to `benchmarks/results/NAME.json`, with the commit, the machine and the date."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import atrous
from atrous.inference.machine import processor

RESULTS = Path(__file__).parent / "results"


def record(name: str, measured: dict[str, Any]) -> Path:
    """`measured` with where and when; replaces an earlier result of that name."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=RESULTS.parent)
    result = {
        "measured": measured,
        "commit": head.stdout.strip() or None,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": {"processor": processor(), "threads": torch.get_num_threads(), "system": platform.platform()},
        "versions": {"atrous": atrous.__version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
