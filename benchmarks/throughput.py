"""Images a second end to end: `atrous predict` over a folder, from files to masks on disk.

    python benchmarks/throughput.py DIRECTORY_OF_PHOTOS [--model street] [--runs 3]

The command runs as a user's does, in a process of its own; its start (imports, loading the model) is measured by a run
over one photo, and taken off.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from atrous.data import find_images
from record import record


def seconds(photos: list[Path], model: str) -> float:
    with tempfile.TemporaryDirectory() as out:
        code = "from atrous.cli.main import main; main()"
        command = [sys.executable, "-c", code, "predict", *map(str, photos), "--model", model, "--mask", "--out", out]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--model", default="street")
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    photos = find_images([arguments.photos])
    seconds(photos[:1], arguments.model)  # warm-up
    start = statistics.median(seconds(photos[:1], arguments.model) for _ in range(arguments.runs))
    whole = statistics.median(seconds(photos, arguments.model) for _ in range(arguments.runs))
    rate = (len(photos) - 1) / (whole - start)
    measured = {
        "command": f"python benchmarks/throughput.py DIR --model {arguments.model}",
        "photos": len(photos),
        "seconds_for_all": round(whole, 2),
        "seconds_for_one": round(start, 2),
        "photos_a_second_once_started": round(rate, 2),
        "photos_a_second_in_all": round(len(photos) / whole, 2),
    }
    print(f"{len(photos)} photos in {whole:.1f} s, one in {start:.1f} s: {rate:.2f} photos a second once started")
    print(record("throughput", measured))


if __name__ == "__main__":
    main()
