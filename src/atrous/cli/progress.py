"""What a person sees meanwhile: a progress bar on stderr, and lines above it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class Report:
    """Lines for stdout and stderr that do not tear the bar; and the bar, where there is one."""

    def __init__(self, bar: Progress | None = None) -> None:
        self._bar = bar
        self._out = sys.stdout  # as it was before anybody redirected it

    def begin(self, what: str) -> None:
        """What is being done from now on, at the left of the bar. The rate is measured from here."""
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], description=what)

    def fetched(self, done: int, total: int | None) -> None:
        """So many bytes of a download are here."""
        if self._bar:
            of = f" of {total / 1e6:.1f}" if total else ""
            self._bar.update(self._bar.task_ids[0], description=f"fetching, {done / 1e6:.1f}{of} MB")

    def advance(self, share: float) -> None:
        """So much of one photo is done."""
        if self._bar:
            self._bar.advance(self._bar.task_ids[0], share)

    def line(self, text: str, err: bool = False) -> None:
        """Prints one line to stdout or stderr."""
        # A file name may hold bytes that are no text.
        text = text.encode(errors="replace").decode()
        if self._bar and (err or self._out.isatty()):
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(text, sys.stderr if err else self._out)


@contextmanager
def report(photos: int, counted: bool = True) -> Iterator[Report]:
    """A `Report` with a bar for so many photos where stderr is a terminal, without one elsewhere.

    Args:
        counted: whether the photos stand beside the bar; not where a single piece of work is done in shares.
    """
    if not sys.stderr.isatty():
        yield Report()
        return
    counts = (_Count(), _Rate()) if counted else ()
    columns = TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        bar.add_task("", total=photos)
        yield Report(bar)


class _Count(ProgressColumn):
    """Whole photos of all."""

    def render(self, task: Task) -> Text:
        # A photo's tiles are added up in floating point and may end a hair below one.
        return Text(f"{int(task.completed + 1e-6)}/{int(task.total or 0)} photos")


class _Rate(ProgressColumn):
    """Photos a second, or seconds a photo where that is the number above one."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f} photos/s" if speed >= 1 else f"{1 / speed:.1f} s/photo")
