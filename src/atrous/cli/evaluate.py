"""`atrous eval`: a model's scores on a labelled folder."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atrous.cli.predict import parse_scales

if TYPE_CHECKING:
    from atrous.evaluation import Scores


def evaluate(
    model: str = typer.Argument(
        ...,
        help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`.",
    ),
    data: Path = typer.Option(..., "--data", help="Folder with images/<split>/, masks/<split>/ and classes.json."),
    split: str = typer.Option("val", help="Which of its splits."),
    scales: str = typer.Option("1", help="Scales to average over, between commas: .5,.75,1,1.25"),
    flip: bool = typer.Option(False, "--flip", help="Average over each photo and its mirror image."),
    output_stride: int | None = typer.Option(None, help="8, 16 or 32; the model's own if not given."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    engine: str = typer.Option("torch", help="As for `atrous predict`; torch is the model itself, exactly."),
    json: bool = typer.Option(False, "--json", help="One JSON object instead of a table."),
) -> None:
    """Score a model: mean IoU of one confusion matrix over all pixels of a split, void left out."""
    chosen = parse_scales(scales)

    from atrous.cli.progress import report
    from atrous.data import SegmentationFolder
    from atrous.evaluation import evaluate as score
    from atrous.inference import load

    folder = SegmentationFolder(data, split)
    with report(len(folder)) as lines:
        lines.begin(f"loading {model}")
        predictor = load(model, device, engine=engine, progress=lines.fetched)
        if output_stride is not None:
            predictor.model.set_output_stride(output_stride)
        lines.begin("evaluating")
        scores = score(predictor, folder, scales=chosen, flip=flip, progress=lambda *_: lines.advance(1))
    if json:
        typer.echo(json_format.dumps(scores.to_dict()))
    else:
        _print_table(scores)


def _print_table(scores: "Scores") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("class")
    table.add_column("IoU", justify="right")
    for name, value in scores.iou.items():
        table.add_row(name, "absent" if value is None else f"{value:.2%}")
    table.add_row("mean", f"{scores.miou:.2%}", style="bold")
    table.add_row("pixel accuracy", f"{scores.pixel_accuracy:.2%}")
    Console(highlight=False).print(table)
