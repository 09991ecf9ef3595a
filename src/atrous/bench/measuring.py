"""Every engine and peer on one photo, each in a process of its own, one after another."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import atrous
from atrous.bench.contestants import REFERENCE, Contestant, LeftOut, engines, peers
from atrous.data import read_image
from atrous.data.blotches import blotches
from atrous.errors import AtrousError
from atrous.inference.devices import choose_device
from atrous.inference.machine import processor
from atrous.weights import open_model

_SECONDS = 3.0  # for a contestant's latency, and as many for its throughput
_BATCH = 4  # photos that are predicted together for the throughput
_LONGEST = 1800  # seconds for one contestant


@dataclass(frozen=True)
class Measured:
    """One contestant's numbers.

    Attributes:
        name, packages: see `Contestant`.
        milliseconds: the median of a photo's way from array to labels, alone.
        quartiles: the times that a quarter of the runs stayed below, and above.
        runs: how many there were.
        first_seconds: until the first labels: importing, reading the weights, preparing.
        photos_per_second: of photos in lists of four.
        peak_bytes: the most memory that its process has held with one photo at a time, its libraries included; on an
            accelerator the most of that one's memory.
        agreement: the share of pixels with the labels of torch in float32.
    """

    name: str
    packages: str
    milliseconds: float
    quartiles: tuple[float, float]
    runs: int
    first_seconds: float
    photos_per_second: float
    peak_bytes: int
    agreement: float


@dataclass(frozen=True)
class Bench:
    """What was measured, of what, and where."""

    model: str
    network: str
    size: tuple[int, int]
    device: str
    threads: int
    machine: str
    system: str
    versions: dict[str, str]
    date: str
    measured: tuple[Measured, ...]
    left_out: tuple[LeftOut, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def bench(
    source: str,
    *,
    size: tuple[int, int] = (513, 513),
    photo: str | Path | None = None,
    engine_names: Sequence[str] | None = None,
    with_peers: bool = False,
    threads: int | None = None,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Bench:
    """Measures a model on this machine.

    Args:
        source: the model, as for `atrous.load`.
        size: (height, width) that the photo is brought to.
        photo: what `read_image` reads; soft spots of colour if None, by which times are as good, and labels less so.
        engine_names: all that are installed, if None; torch is always measured, as what the others are held to.
        with_peers: also torchvision, smp, transformers and LiteRT, those which are installed and have this network.
        threads: of each contestant; torch's own number by default.
        progress: called with who is measured, and how many of how many are done.

    Raises:
        AtrousError: no such model, engine or device, or torch itself cannot run it.
    """
    chosen = choose_device(device)
    opened = open_model(source)
    source = os.path.abspath(source) if os.path.exists(source) else source
    shown = (
        blotches(*size) if photo is None else cv2.resize(read_image(photo), size[::-1], interpolation=cv2.INTER_AREA)
    )
    count = threads or torch.get_num_threads()
    with tempfile.TemporaryDirectory(prefix="atrous-bench-") as name:
        folder = Path(name)
        np.save(folder / "photo.npy", shown)
        listed = [
            *engines(engine_names, opened, source, chosen),
            *(peers(opened, source, folder) if with_peers else ()),
        ]
        contestants = [each for each in listed if isinstance(each, Contestant)]
        left_out = [each for each in listed if isinstance(each, LeftOut)]
        common = {"size": list(size), "threads": count, "device": str(chosen), "batch": _BATCH, "seconds": _SECONDS}
        measured = []
        for done, contestant in enumerate(contestants):
            progress(contestant.name, done, len(contestants))
            outcome = _measure(contestant, common, folder)
            if isinstance(outcome, Measured):
                measured.append(outcome)
            elif contestant.name == REFERENCE:
                raise AtrousError(f"{source}: cannot be measured: {outcome.reason}")
            else:
                left_out.append(outcome)
    return Bench(
        model=source,
        network=opened.found,
        size=size,
        device=torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else str(chosen),
        threads=count,
        machine=processor(),
        system=platform.platform(),
        versions={
            "atrous": atrous.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        date=datetime.now(UTC).isoformat(timespec="minutes"),
        measured=tuple(measured),
        left_out=tuple(left_out),
    )


def _measure(contestant: Contestant, common: dict[str, Any], folder: Path) -> Measured | LeftOut:
    files = {name: str(folder / f"{contestant.name}.{name}") for name in ("measured", "labels", "spec")}
    files["labels"] += ".npy"
    spec = {**common, **contestant.spec, "start": contestant.start, "photo": str(folder / "photo.npy"), **files}
    Path(files["spec"]).write_text(json.dumps(spec), encoding="utf-8")
    # What can be imported here can be there; OpenMP is told before any library starts it.
    found = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": str(common["threads"])}
    command = [sys.executable, "-m", "atrous.bench.process", files["spec"]]
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_LONGEST, env={**os.environ, **found}
        )
    except subprocess.TimeoutExpired:
        return LeftOut(contestant.name, f"not done after {_LONGEST} seconds")
    if ended.returncode != 0:
        said = ended.stderr.strip().splitlines() or [f"ended with {ended.returncode}"]
        return LeftOut(contestant.name, said[-1])
    numbers = json.loads(Path(files["measured"]).read_text(encoding="utf-8"))
    milliseconds = [1e3 * seconds for seconds in numbers["seconds"]]
    low, median, high = statistics.quantiles(milliseconds, n=4)
    labels, expected = np.load(files["labels"]), np.load(folder / f"{REFERENCE}.labels.npy")
    return Measured(
        contestant.name,
        contestant.packages,
        round(median, 3),
        (round(low, 3), round(high, 3)),
        len(milliseconds),
        round(numbers["first"], 2),
        round(numbers["photos_per_second"], 2),
        numbers["peak_bytes"],
        float((labels == expected).mean()),
    )
