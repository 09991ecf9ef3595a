"""`atrous bench`: how fast a model is here, under each engine and beside its peers."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atrous.cli.outputs import writable_file
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from atrous.bench.measuring import Bench


def bench(
    model: str = typer.Argument(
        "street", help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`."
    ),
    size: str = typer.Option("513", help="The photo's side, or HxW."),
    photo: Path | None = typer.Option(None, help="Brought to that size; spots of colour if not given."),
    engines: str | None = typer.Option(
        None, help="Some of `atrous predict --engine`'s, between commas; all that run here if not given."
    ),
    peers: bool = typer.Option(
        False, "--peers", help="Also torchvision, smp, transformers and LiteRT: those installed that have this network."
    ),
    threads: int | None = typer.Option(None, min=1, help="For each; torch's own number if not given."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    json: Path | None = typer.Option(
        None, "--json", callback=writable_file, help="File for all numbers, with the machine's name."
    ),
) -> None:
    """Measure a model on this machine: latency, throughput, memory, and whether the labels are torch's.

    Each contestant runs in a process of its own, one after another. Leave the machine alone meanwhile.
    """
    sides = parse_sides(size)

    from atrous.bench.measuring import bench as measure
    from atrous.cli.progress import report
    from atrous.files import replacing

    with report(0, counted=False) as lines:
        lines.begin(f"loading {model}")
        measured = measure(
            model,
            size=sides,
            photo=photo,
            engine_names=engines.split(",") if engines else None,
            with_peers=peers,
            threads=threads,
            device=device,
            progress=lambda what, done, total: lines.begin(f"measuring {what}, {done + 1} of {total}"),
        )
    _print_table(measured)
    if json:
        with replacing(json) as unfinished:
            unfinished.write_text(json_format.dumps(measured.to_dict(), indent=1) + "\n", encoding="utf-8")


def parse_sides(text: str) -> tuple[int, int]:
    """`--size`: one side for both, or height and width, e.g. "513x769"."""
    height, _, width = text.lower().partition("x")
    width = width or height
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise AtrousError(f"--size {text!r}: give a side or height and width, e.g. 513 or 513x769")
    return int(height), int(width)


def _print_table(bench: "Bench") -> None:
    from rich.console import Console
    from rich.table import Table

    height, width = bench.size
    threads = "1 thread" if bench.threads == 1 else f"{bench.threads} threads"
    typer.echo(f"{bench.model}: {bench.network}")
    typer.echo(f"a photo of {height}×{width} on {bench.device}, {threads}; {bench.machine}")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True, style="bold")
    for title in ("ms a photo", "half within", "photos/s", "peak MB", "torch's labels", "first after"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("runs on", overflow="fold")
    for one in sorted(bench.measured, key=lambda one: one.milliseconds):
        table.add_row(
            one.name,
            f"{one.milliseconds:.1f}",
            "-".join(f"{quartile:.1f}" for quartile in one.quartiles),
            f"{one.photos_per_second:.1f}",
            f"{one.peak_bytes / 1e6:.0f}",
            f"{one.agreement:.2%}",
            f"{one.first_seconds:.1f} s",
            one.packages,
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to wrap for
    console.print(table)
    for left_out in bench.left_out:
        typer.echo(f"left out: {left_out.name}: {left_out.reason}")
