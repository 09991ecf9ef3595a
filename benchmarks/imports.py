"""What importing costs: Atrous against torch alone, and the command's help.

    python benchmarks/imports.py

Each in a fresh interpreter, by turns. "everything" names every public function of `atrous`, which `import atrous` by
itself does not import.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from record import record

_TURNS = 7
STATEMENTS = {
    "torch": "import torch",
    "atrous": "import atrous",
    "atrous, everything": "import atrous; [getattr(atrous, name) for name in atrous.__all__]",
}
HELP = [str(Path(sys.executable).with_name("atrous")), "--help"]


def seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    commands = {name: [sys.executable, "-c", statement] for name, statement in STATEMENTS.items()}
    commands["atrous --help"] = HELP
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(_TURNS + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if turn:  # the first turn fills the disk's cache
                times[name].append(taken)
    medians = {name: round(statistics.median(each), 3) for name, each in times.items()}
    ratio = round(medians["atrous, everything"] / medians["torch"], 2)
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s")
    print(f"atrous, everything: {ratio} times torch alone")
    measured = {"command": "python benchmarks/imports.py", "seconds": medians, "times_torch_alone": ratio}
    print(record("imports", measured))


if __name__ == "__main__":
    main()
