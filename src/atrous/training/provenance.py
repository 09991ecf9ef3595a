"""What a run says of how it was made: in the saved model's card, and as a recipe that repeats it."""

import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

import atrous
from atrous.files import replacing
from atrous.inference.machine import processor
from atrous.training.recipe import Recipe

RECIPE = "recipe.yaml"


def origin(recipe: Recipe, data: str | Path, photos: int) -> dict[str, Any]:
    """What a reader needs to train the model again."""
    return {
        "settings": recipe.model_dump(),
        "trained_on": f"{Path(data).name} {recipe.train_split} ({photos} photos)",
        "seed": recipe.seed,
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "atrous": atrous.__version__,
            "torch": torch.__version__,
            **{name: version(name) for name in ("lightning", "numpy")},
            "python": platform.python_version(),
        },
    }


def write_recipe(path: Path, recipe: Recipe, data: str | Path) -> None:
    """Writes the whole recipe, defaults and changes of the command line included, so that it can be run again.

    Raises:
        AtrousError: it cannot be written.
    """
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    header = {
        "command": " ".join(command.split()),  # a line of a comment, whatever the arguments hold
        "data": Path(data).resolve(),
        "commit": _commit() or "unknown",
        "versions": f"atrous {atrous.__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    lines = [f"# {name}: {value}\n" for name, value in header.items()]
    values = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    with replacing(path) as unfinished:
        unfinished.write_text("".join(lines) + values, encoding="utf-8")


def machine(device: torch.device) -> str:
    """What trains, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


def _commit() -> str | None:
    """This package's commit, marked where files differ from it; none where it is not run from its repository."""
    git, here = shutil.which("git"), Path(__file__)
    if git is None:
        return None

    def asked(*arguments: str) -> str:
        command = [git, "-C", str(here.parent), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    if not asked("ls-files", here.name):  # an installed package below somebody else's repository
        return None
    return asked("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") or None
