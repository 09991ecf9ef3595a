"""An experiment's table, plot and page, from whatever has been run so far."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from atrous.ablation.experiment import Experiment
from atrous.ablation.results import Line, Result, read_results, summarise
from atrous.files import replacing
from atrous.viz import page, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADER = ("", "ours", "difference", "paper", "its difference", "seeds")


def write_report(out: str | Path, experiment: Experiment) -> list[Path]:
    """Writes `table.md`, `plot.png`, `plot.svg` and `index.html` into the experiment's folder.

    Raises:
        AtrousError: there are no results.
    """
    results = read_results(out, experiment)
    lines = summarise(experiment, results)
    folder = Path(out) / experiment.name
    drawn = draw(experiment, lines, results[0].backbone)
    with replacing(folder / "table.md") as unfinished:
        unfinished.write_text(markdown(experiment, lines, results), encoding="utf-8")
    plots.save(drawn, folder / "plot.png")
    plots.save(drawn, folder / "plot.svg")
    _page(experiment, lines, results, drawn).save(folder / "index.html")
    return [folder / name for name in ("table.md", "plot.png", "plot.svg", "index.html")]


def cells(line: Line) -> tuple[str, ...]:
    """A line of the table under `HEADER`."""
    return (
        line.row.name,
        str(line.ours),
        "" if line.difference is None else _signed(line.difference.mean, line.difference.deviation),
        "" if line.paper is None else f"{line.paper:.2f}",
        "" if line.paper_difference is None else _signed(line.paper_difference),
        str(len(line.mious)),
    )


def caption(experiment: Experiment, results: Sequence[Result]) -> str:
    """What was measured, and what it stands beside, in a few sentences."""
    first = results[0]
    model = first.settings["model"]["name"]
    photos = [f"{count} {split}" for split, count in first.data.items() if isinstance(count, int)]
    hours = sum({(r.seed, str(r.settings)): r.training_seconds for r in results}.values()) / 3600
    setting = f" ({experiment.setting})" if experiment.setting else ""
    return (
        f"mIoU in percent. Ours: {model} on {first.data['name']} ({', '.join(photos)} photos), "
        f"{first.settings['schedule']['epochs']} epochs, the last one's weights; mean ± deviation over seeds; "
        f"{hours:.1f} hours of training in all. Differences are from the group's first row, ours seed by seed. "
        f"Paper: {experiment.source}, on PASCAL VOC 2012 val{setting}."
    )


def markdown(experiment: Experiment, lines: Sequence[Line], results: Sequence[Result]) -> str:
    """The table as it goes into the documentation."""
    text = [f"# {experiment.name}", "", experiment.question, "", f"| {' | '.join(HEADER)} |", "|---|" + "---:|" * 5]
    for group, within in groupby(lines, key=lambda line: line.row.group):
        if group:
            text.append(f"| **{group}** | | | | | |")
        text += [f"| {' | '.join(cells(line))} |" for line in within]
    return "\n".join([*text, "", caption(experiment, results), ""])


def draw(experiment: Experiment, lines: Sequence[Line], backbone: str) -> "Figure":
    """Ours and the paper's side by side, each on its own scale: dots are seeds, the bar is mean ± deviation."""
    labels, places, groups = [], [], []
    place = 0.0
    for group, within in groupby(lines, key=lambda line: line.row.group):
        if group:
            groups.append((place, group))
            place += 1
        for line in within:
            labels.append(line.row.name)
            places.append(place)
            place += 1
    figure = plots.figure(9, 1.4 + 0.3 * place)
    left, right = figure.subplots(1, 2, sharey=True)
    for line, at in zip(lines, places, strict=True):
        left.plot(line.mious, [at] * len(line.mious), "o", color=plots.COLOURS[5], markersize=4, zorder=2)
        left.errorbar(
            line.ours.mean, at, xerr=line.ours.deviation, fmt="|", color=plots.COLOURS[0], markersize=14, capsize=3
        )
        if line.paper is not None:
            right.plot(line.paper, at, "D", color=plots.COLOURS[1], markersize=5)
    left.set_yticks([*places, *(at for at, _ in groups)], [*labels, *(group for _, group in groups)])
    for label, _ in zip(left.get_yticklabels()[len(places) :], groups, strict=True):
        label.set_fontweight("bold")
    left.set_ylim(place - 0.4, -0.6)
    left.set_xlabel(f"ours: mIoU (%), {backbone}")
    right.set_xlabel(f"{experiment.source}: mIoU (%), VOC 2012 val")
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        low, high = axes.get_xlim()
        if high - low < 1:  # else a hair's breadth looks like a gap
            axes.set_xlim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    return figure


def _page(experiment: Experiment, lines: Sequence[Line], results: Sequence[Result], drawn: "Figure") -> page.Page:
    made = page.Page(f"{experiment.name}: {experiment.question}")
    made.text(caption(experiment, results))
    for group, within in groupby(lines, key=lambda line: line.row.group):
        made.table(HEADER, [cells(line) for line in within], caption=group)
    made.picture(drawn, "Dots are seeds, bars mean ± deviation; each side has its own scale.")
    made.heading("By class")
    classes = list(results[0].iou)
    by_row: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_row.setdefault((result.group, result.row), []).append(result)
    rows = [
        [" ".join(part for part in key if part), *(_class_mean(same, name) for name in classes)]
        for key, same in by_row.items()
    ]
    return made.table(["", *classes], rows, caption="IoU in percent, mean over seeds")


def _class_mean(results: Sequence[Result], name: str) -> str:
    values = [value for result in results if (value := result.iou[name]) is not None]
    return f"{100 * sum(values) / len(values):.1f}" if values else "absent"


def _signed(mean: float, deviation: float | None = None) -> str:
    text = f"{mean:+.2f}".replace("-", "\N{MINUS SIGN}")
    return text if deviation is None else f"{text} ± {deviation:.2f}"
