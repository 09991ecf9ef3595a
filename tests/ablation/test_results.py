"""Means, deviations and differences, counted by hand."""

import math

import pytest

from atrous.ablation import Result, Spread, find_experiment, read_results, summarise, write_report
from atrous.ablation.results import result_path
from atrous.errors import AtrousError

DECODER = find_experiment("v3plus-decoder")
MIOUS = {  # of seeds 1, 2, 3
    ("form", "3×3×256"): (0.50, 0.52, 0.57),
    ("form", "3×3×256 twice"): (0.51, 0.54, 0.57),
    ("form", "3×3×128"): (0.49,),
}


def write(out, group, row, seed, miou, **changes):
    values = {
        "experiment": DECODER.name,
        "group": group,
        "row": row,
        "seed": seed,
        "backbone": "mobilenet_v2",
        "miou": miou,
        "pixel_accuracy": 0.9,
        "iou": {"sky": 0.75, "pole": None},
        "training_seconds": 1800.0,
        "judging_seconds": 0.0,
        "settings": {"model": {"name": "deeplabv3plus_mobilenet_v2"}, "schedule": {"epochs": 7}, "row": row},
        "judgement": {},
        "data": {"name": "street", "train": 367, "val": 101, "photos": "0"},
        "origin": {},
    }
    found = next(each for each in DECODER.rows if (each.group, each.name) == (group, row))
    Result(**{**values, **changes}).write(result_path(out, DECODER, found, seed))


@pytest.fixture
def out(tmp_path):
    for (group, row), mious in MIOUS.items():
        for seed, miou in enumerate(mious, start=1):
            write(tmp_path, group, row, seed, miou)
    return tmp_path


def test_mean_and_deviation():
    """50, 52, 57: 53 off by 3, 1 and 4, so (9 + 1 + 16) / 2 = 13."""
    spread = Spread.of([50, 52, 57])
    assert spread.mean == 53
    assert spread.deviation == pytest.approx(math.sqrt(13))
    assert str(spread) == "53.00 ± 3.61"
    assert str(Spread.of([50])) == "50.00"


def test_rows_are_compared_seed_by_seed(out):
    """1, 2 and 0 more: 1 ± 1, though each by itself spreads by 3."""
    first, twice, narrow = summarise(DECODER, read_results(out, DECODER))
    assert [line.row.name for line in (first, twice, narrow)] == ["3×3×256", "3×3×256 twice", "3×3×128"]
    assert first.difference is None
    assert twice.difference.mean == pytest.approx(1)
    assert twice.difference.deviation == pytest.approx(1)
    assert twice.paper_difference == pytest.approx(78.85 - 78.21)
    # The one seed that both have.
    assert narrow.difference.mean == pytest.approx(-1)
    assert narrow.difference.deviation is None


def test_without_the_row_compared_with_there_is_no_difference(tmp_path):
    write(tmp_path, "form", "3×3×128", 1, 0.5)
    (line,) = summarise(DECODER, read_results(tmp_path, DECODER))
    assert line.difference is None
    assert line.paper == 77.25


def test_the_report_holds_ours_beside_the_papers(out):
    written = write_report(out, DECODER)
    assert [path.name for path in written] == ["table.md", "plot.png", "plot.svg", "index.html"]
    text = written[0].read_text()
    assert "| 3×3×256 twice | 54.00 ± 3.00 | +1.00 ± 1.00 | 78.85 | +0.64 | 3 |" in text
    assert "| 3×3×128 | 49.00 | \N{MINUS SIGN}1.00 | 77.25 | \N{MINUS SIGN}0.96 | 1 |" in text
    # Seven trainings of half an hour.
    assert "street (367 train, 101 val photos), 7 epochs" in text
    assert "3.5 hours of training in all" in text
    assert "**low-level channels**" not in text  # nothing of it has been run
    page = written[3].read_text()
    assert "54.00 ± 3.00" in page
    assert "absent" in page
    svg = written[2].read_text()
    assert "3×3×256 twice" in svg
    assert "v3+, tables 1 and 2" in svg


def test_there_must_be_results_of_one_backbone(out, tmp_path):
    with pytest.raises(AtrousError, match="no results yet; run `atrous ablate v3plus-decoder` first"):
        read_results(tmp_path / "none", DECODER)
    write(out, "form", "1×1×256", 1, 0.5, backbone="resnet50")
    with pytest.raises(AtrousError, match=r"several backbones \(mobilenet_v2, resnet50\)"):
        write_report(out, DECODER)
