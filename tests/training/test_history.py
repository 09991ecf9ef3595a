"""The epochs of a run: which was the best, and how long ago."""

import csv

import pytest

from atrous.training.history import best_epoch, stale, write_history


def epochs(*mious):
    """Epochs from 1 on, with their mIoU; None where nothing was judged."""
    rows = ({"epoch": epoch, "loss": 1.0, "miou": miou} for epoch, miou in enumerate(mious, 1))
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize(
    ("mious", "best", "since"),
    [
        ((), None, 0),
        ((None, None), None, 0),
        ((None, 0.5), 2, 0),
        ((0.5, None, 0.4, None, 0.3), 1, 2),
        ((0.5, 0.5, 0.5), 1, 2),  # as good is not better
        ((0.5, 0.3, 0.6, None, 0.55), 3, 1),
        ((0.0, 0.0), 1, 1),
    ],
)
def test_the_first_of_the_best_epochs_and_the_validations_since(mious, best, since):
    history = epochs(*mious)
    assert (best_epoch(history), stale(history)) == (best, since)


def test_the_file_has_every_number_and_nothing_where_there_is_none(tmp_path):
    history = epochs(0.1 + 0.2, None)
    history[1]["note"] = "stopped early: 1, or so"
    write_history(tmp_path / "metrics.csv", history)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["miou"] or -1) for row in rows] == [0.1 + 0.2, -1]
    assert [row["note"] for row in rows] == ["", "stopped early: 1, or so"]
