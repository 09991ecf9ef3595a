"""The epochs of a run, as metrics.csv lists them."""

import csv
import io
from pathlib import Path
from typing import Any, TypeAlias

from atrous.files import replacing

METRICS = "metrics.csv"

History: TypeAlias = list[dict[str, Any]]
"""A row for each epoch; `miou` and `pixel_accuracy` where it was judged, `note` where there is something to say."""

_COLUMNS = (
    "epoch",
    "loss",  # the mean over its batches
    "learning_rate",  # of its last step, without multipliers
    "miou",
    "pixel_accuracy",
    "images_per_second",  # of training alone
    "epoch_seconds",  # with validation
    "seconds",  # since the run began, without the time between being stopped and resumed
    "note",
)


def write_history(path: Path, history: History) -> None:
    """Writes metrics.csv.

    Raises:
        AtrousError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(history)
    with replacing(path) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")


def best_epoch(history: History) -> int | None:
    """The first epoch of the highest mean IoU; none before the first validation."""
    judged = [row for row in history if "miou" in row]
    return max(judged, key=lambda row: row["miou"])["epoch"] if judged else None


def stale(history: History) -> int:
    """How many validations there have been since the best one."""
    judged = [row["epoch"] for row in history if "miou" in row]
    return len(judged) - 1 - judged.index(best_epoch(history)) if judged else 0
