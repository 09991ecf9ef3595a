"""Finished runs, and what they come to: mean and deviation over seeds, and how far from the row compared with."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from atrous.ablation.experiment import Experiment, Row
from atrous.errors import AtrousError
from atrous.files import replacing


@dataclass(frozen=True)
class Result:
    """One row with one seed, as its file holds it.

    Attributes:
        miou, pixel_accuracy, iou: 0 to 1, of the validation split.
        training_seconds: of the training that it stands on, which other rows may share.
        settings: what of the recipe is not as by default; judgement: how the model was run.
        data: the data set's name, sizes and fingerprint.
        origin: where and when: commit, date, machine, versions.
    """

    experiment: str
    group: str
    row: str
    seed: int
    backbone: str
    miou: float
    pixel_accuracy: float
    iou: dict[str, float | None]
    training_seconds: float
    judging_seconds: float
    settings: dict[str, Any]
    judgement: dict[str, Any]
    data: dict[str, Any]
    origin: dict[str, Any]

    def write(self, path: Path) -> None:
        with replacing(path) as unfinished:
            unfinished.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def result_path(out: Path, experiment: Experiment, row: Row, seed: int) -> Path:
    return out / experiment.name / "results" / f"{row.slug}-seed{seed}.json"


def read_result(path: Path) -> Result:
    """Reads a finished run.

    Raises:
        AtrousError: the file is not one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Result(**{field.name: values[field.name] for field in fields(Result)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AtrousError(f"{path}: not a result of `atrous ablate` ({error!r}): delete it") from error


def read_results(out: str | Path, experiment: Experiment) -> list[Result]:
    """All finished runs of an experiment, in the order of its rows.

    Raises:
        AtrousError: there are none, or they are of several backbones.
    """
    folder = Path(out) / experiment.name / "results"
    found = [read_result(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise AtrousError(f"{folder}: no results yet; run `atrous ablate {experiment.name}` first")
    backbones = sorted({result.backbone for result in found})
    if len(backbones) > 1:
        raise AtrousError(f"{folder}: results of several backbones ({', '.join(backbones)}): keep one an --out")
    order = {(row.group, row.name): index for index, row in enumerate(experiment.rows)}
    known = [result for result in found if (result.group, result.row) in order]
    return sorted(known, key=lambda result: (order[result.group, result.row], result.seed))


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and the sample deviation (n - 1) where there are two or more."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.2f}" + ("" if self.deviation is None else f" ± {self.deviation:.2f}")


@dataclass(frozen=True)
class Line:
    """A row of the table, in percent.

    Attributes:
        mious: ours, one a seed.
        difference: from the group's first row, seed by seed; None for that row, or where no seed has both.
        paper: the paper's number; paper_difference: from its number for the group's first row.
    """

    row: Row
    mious: tuple[float, ...]
    difference: Spread | None
    paper: float | None
    paper_difference: float | None

    @property
    def ours(self) -> Spread:
        return Spread.of(self.mious)


def summarise(experiment: Experiment, results: Sequence[Result]) -> list[Line]:
    """The table's lines, in the paper's order, of the rows that have results.

    A row is compared with the first of its group seed by seed: both then saw the same photos in the same order, and
    what a lucky seed adds to both falls out.
    """
    by_row: dict[tuple[str, str], dict[int, float]] = {}
    for result in results:
        by_row.setdefault((result.group, result.row), {})[result.seed] = 100 * result.miou
    lines = []
    for row in experiment.rows:
        ours = by_row.get((row.group, row.name))
        if ours is None:
            continue
        first = next(other for other in experiment.rows if other.group == row.group)
        paper, paper_first = (experiment.paper(each, results[0].backbone) for each in (row, first))
        reference = by_row.get((first.group, first.name), {})
        pairs = [ours[seed] - reference[seed] for seed in ours if seed in reference]
        compared = row is not first
        lines.append(
            Line(
                row,
                tuple(ours[seed] for seed in sorted(ours)),
                Spread.of(pairs) if compared and pairs else None,
                paper,
                paper - paper_first if compared and paper is not None and paper_first is not None else None,
            )
        )
    return lines
