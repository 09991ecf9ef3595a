"""`atrous ablate`: the papers' tables on one's own data."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atrous.cli.extras import needs_lightning
from atrous.cli.outputs import writable
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from rich.table import Table

    from atrous.ablation import Experiment, Plan, Result


def ablate(
    name: str = typer.Argument("", help="An experiment; without one, they are listed."),
    data: Path | None = typer.Option(None, "--data", help="A labelled data set, as for `atrous train`."),
    out: Path = typer.Option(
        Path("runs/ablation"), "--out", "-o", callback=writable, help="Folder for models, results and tables."
    ),
    recipe: Path | None = typer.Option(None, "--recipe", help="A recipe; without one, the paper's."),
    backbone: str | None = typer.Option(None, "--backbone", help="Another than the recipe's or the paper's."),
    epochs: int | None = typer.Option(None, "--epochs", min=1, help="As --set schedule.epochs=N."),
    seeds: int = typer.Option(3, "--seeds", min=1, help="How many trainings of each row."),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a key of the recipe."),
    only: list[str] = typer.Option([], "--only", metavar="ROW", help="Only these rows; * stands for anything."),
    price: float | None = typer.Option(None, "--price", min=0.0, help="Of an hour of this machine, for the estimate."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Stop after the estimate."),
    table: bool = typer.Option(False, "--table", help="Only write table and plots anew from what has been run."),
    workers: int = typer.Option(1, min=0, help="Processes that prepare samples."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
) -> None:
    """Run a table of the papers on your data: an estimate, then runs by seeds, then the table beside the paper's."""
    with needs_lightning("ablation"):
        from atrous.ablation import find_experiment, make_plan, pending, run_plan
        from atrous.settings import parse_override
        from atrous.training import load_recipe
    if not name:
        _list()
        return
    experiment = find_experiment(name)
    if table:
        _report(out, experiment)
        return
    if data is None:
        raise AtrousError("--data: give the folder of a labelled data set")
    changes = dict(parse_override(override) for override in overrides)
    if epochs is not None:
        changes["schedule.epochs"] = epochs
    base = load_recipe(recipe) if recipe else None
    plan = make_plan(experiment, base, backbone=backbone, changes=changes, seeds=seeds, only=only)
    for reason in dict.fromkeys(plan.left_out.values()):
        slugs = ", ".join(slug for slug, why in plan.left_out.items() if why == reason)
        typer.echo(f"left out: {slugs} ({reason})", err=True)
    _estimate(plan, data, out, device, price)
    if not dry_run:
        run_plan(plan, data, out, workers=workers, device=device, finished=_Finished(len(pending(plan, data, out))))
        _report(out, experiment)


def _list() -> None:
    from atrous.ablation import EXPERIMENTS

    for experiment in EXPERIMENTS.values():
        typer.echo(f"{experiment.name}: {len(experiment.rows)} rows ({experiment.source})\n    {experiment.question}")


def _estimate(plan: "Plan", data: Path, out: Path, device: str, price: float | None) -> None:
    from rich.console import Console

    from atrous.ablation import estimate
    from atrous.cli.progress import report

    with report(0, counted=False) as lines:
        found = estimate(plan, data, out, device=device, measuring=lambda what: lines.begin(f"measuring {what}"))
    table = _table("", "to do", "each", "together", "10⁹ multiply-adds")
    for kind, items in (("train", found.trainings), ("judge", found.judgings)):
        for item in items:
            each, together = _duration(item.seconds), _duration(item.count * item.seconds)
            about = "" if item.measured else "~"
            work = f"{item.count * item.multiply_adds / 1e9:,.0f}"
            table.add_row(f"{kind} {item.what}", str(item.count), about + each, about + together, work)
    cost = "" if price is None else f", {found.seconds / 3600 * price:,.2f} at {price:g} an hour"
    total = f"{_duration(found.seconds)}{cost}"
    table.add_row("all", "", "", total, f"{found.multiply_adds / 1e9:,.0f}", style="bold")
    Console(highlight=False).print(table)
    typer.echo(f"about {total} on this machine, {found.disk / 1e6:,.0f} MB of models in {out}")


class _Finished:
    """A line for each result, with the time that is left if the rest goes as it went."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.started = total, 0, time.monotonic()

    def __call__(self, result: "Result") -> None:
        self.done += 1
        elapsed = time.monotonic() - self.started
        left = elapsed / self.done * (self.total - self.done)
        row = ", ".join(part for part in (result.group, result.row) if part)
        typer.echo(
            f"[{self.done}/{self.total}] {row}, seed {result.seed}: mIoU {result.miou:.2%}; "
            f"{_duration(elapsed)} so far, about {_duration(left)} left"
        )


def _report(out: Path, experiment: "Experiment") -> None:
    from itertools import groupby

    from rich.console import Console

    from atrous.ablation import HEADER, cells, read_results, summarise, write_report

    written = write_report(out, experiment)
    table = _table(*HEADER)
    for group, lines in groupby(summarise(experiment, read_results(out, experiment)), key=lambda line: line.row.group):
        if group:
            table.add_row(group, style="bold")
        for line in lines:
            table.add_row(*cells(line))
    Console(highlight=False).print(table)
    typer.echo(f"written: {', '.join(map(str, written))}")


def _table(first: str, *others: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first)
    for column in others:
        table.add_column(
            column, justify="left" if column in ("paper", "question") and "question" in others else "right"
        )
    return table


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
