"""Peak memory of predicting a very large photo: `atrous predict` on one JPEG of SIDE × SIDE pixels.

    python benchmarks/large_image.py PHOTO [--side 20000] [--model street]

The photo is repeated, mirrored at each seam, to that size. The peak is the resident memory of the whole process, read
from the file to the mask on disk, as the system accounts for it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from atrous.data import read_image
from record import record


def make_large(photo: Path, side: int, path: Path) -> None:
    image = read_image(photo)
    pair = np.concatenate([image, image[:, ::-1]], axis=1)
    block = np.concatenate([pair, pair[::-1]], axis=0)
    repeats = (-(-side // block.shape[0]), -(-side // block.shape[1]), 1)
    cv2.imwrite(str(path), np.tile(block, repeats)[:side, :side, ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--model", default="street")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.jpg"
        maker = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import large_image as l; "
        maker += "l.make_large(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))"
        here = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-c", maker, here, arguments.photo, str(arguments.side), large], check=True)
        code = "from atrous.cli.main import main; main()"
        command = [sys.executable, "-c", code, "predict", large, "--model", arguments.model, "--mask", "--out", folder]
        # The largest child counts, and the one that made the photo is larger: measured in a child of a child.
        wrapper = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
        wrapper += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", wrapper, *map(str, command)], check=True, capture_output=True, text=True
        )
        taken = time.perf_counter() - begun
        mask = Path(folder) / "large.png"
        size = mask.stat().st_size
    peak = int(done.stdout.split()[-1]) / 2**20
    measured = {
        "command": f"python benchmarks/large_image.py PHOTO --side {arguments.side} --model {arguments.model}",
        "side": arguments.side,
        "peak_GiB": round(peak, 3),
        "seconds": round(taken, 1),
        "mask_MB": round(size / 1e6, 1),
    }
    print(f"{arguments.side} × {arguments.side}: peak {peak:.2f} GiB, {taken:.0f} s")
    print(record("large_image", measured))


if __name__ == "__main__":
    main()
