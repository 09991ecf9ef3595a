"""`atrous eval`: a model's scores on labelled data."""

import json as json_format
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from atrous.cli.outputs import writable
from atrous.cli.predict import parse_scales
from atrous.errors import AtrousError, ImageError

if TYPE_CHECKING:
    from atrous.data import SegmentationDataset
    from atrous.evaluation import Evaluation
    from atrous.inference.labelling import Keywords

_SHOWN_WIDTHS = (1, 3, 5, 10, 20, 40)  # of the trimap, in the table
_WORTH_MEASURING = 20  # views of photos


def evaluate(
    model: str = typer.Argument(
        ...,
        help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`.",
    ),
    data: Path = typer.Option(..., "--data", help="A labelled data set, as `atrous data check` knows it."),
    split: str = typer.Option("val", help="Which of its splits."),
    scales: str = typer.Option("1", help="Scales to average over, between commas: .5,.75,1,1.25"),
    flip: bool = typer.Option(False, "--flip", help="Average over each photo and its mirror image."),
    window: int | None = typer.Option(None, help="Side of sliding windows, averaged where they overlap."),
    stride: int | None = typer.Option(None, help="From one window to the next; two thirds of --window if not given."),
    crf: str | None = typer.Option(None, help="Refine with a fully connected CRF: voc, another name, or a YAML file."),
    trimap: str | None = typer.Option(
        None, help="Score bands of 1 to 40 pixels around void, around the label's edges, or auto: what the data has."
    ),
    boundary: bool = typer.Option(False, "--boundary", help="Boundary IoU beside the IoU."),
    calibration: bool = typer.Option(False, "--calibration", help="Expected calibration error of the probabilities."),
    report: Path | None = typer.Option(
        None, callback=writable, help="Write a page with all of these, plots and the worst photos: .html"
    ),
    save_masks: Path | None = typer.Option(
        None, callback=writable, help="Folder for the predictions, as --format has them."
    ),
    format: str = typer.Option("labels", help="labels, cityscapes (its ids) or ade20k (1 to 150): for --save-masks."),
    output_stride: int | None = typer.Option(None, help="8, 16 or 32; the model's own if not given."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    engine: str | None = typer.Option(
        None,
        help="As for `atrous predict`. If not given, auto-float32: the fastest here without rounding, which moves a "
        "few pixels in a million; torch, the model itself, for less than 20 views of photos.",
    ),
    json: bool = typer.Option(False, "--json", help="One JSON object instead of a table."),
) -> None:
    """Score a model: mean IoU of one confusion matrix over all pixels of a split, void left out.

    Under torchrun the processes share the photos, and the first one prints the whole.
    """
    chosen = parse_scales(scales)
    if trimap not in (None, "auto", "void", "edges"):
        raise AtrousError(f"--trimap {trimap!r}: give auto, void or edges")
    if stride is not None and window is None:
        raise AtrousError("--stride goes with --window, the side of the windows")
    if stride is not None and stride < 1:
        raise AtrousError(f"--stride {stride}: give 1 pixel or more")
    if format != "labels" and save_masks is None:
        raise AtrousError(f"--format {format} goes with --save-masks, the folder for the predictions")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise AtrousError(f"--report {report}: the report is a page; give a name that ends in .html")

    from atrous.cli.progress import Report
    from atrous.cli.progress import report as progress
    from atrous.crf import parse_crf, prepare
    from atrous.evaluation import Windows, mask_writer, write_report
    from atrous.evaluation import evaluate as score
    from atrous.evaluation.evaluate import predict_all
    from atrous.evaluation.processes import own_device, share, torchrun_processes
    from atrous.inference import Failure, load
    from atrous.ops import keep_freed_memory

    windows = Windows(window, stride or 0) if window is not None else None
    refinement = None if crf is None else parse_crf(crf)
    options: Keywords = {"scales": chosen, "flip": flip}
    if refinement:
        options["crf"] = refinement
    dataset = _open(data, split, unlabelled=save_masks is not None)
    if not _labelled(dataset) and (report or trimap or boundary or calibration or json):
        raise AtrousError(
            f"--data {data}: {split} has no masks of its own to score by: "
            "leave --report, --trimap, --boundary, --calibration and --json out"
        )
    with (
        torchrun_processes() as number,
        progress(len(share(len(dataset)))) if number == 0 else nullcontext(Report()) as lines,
    ):
        ours = share(len(dataset))
        lines.begin(f"loading {model}")
        views = len(ours) * len(chosen) * (2 if flip else 1)
        fitting = "auto-float32" if views >= _WORTH_MEASURING else "torch"
        keep_freed_memory()
        predictor = load(model, own_device(device), engine=engine or fitting, progress=lines.fetched)
        if output_stride is not None:
            predictor.model.set_output_stride(output_stride)
        if refinement:
            lines.begin("preparing the CRF")
            prepare(refinement, predictor.device)
        seen = mask_writer(save_masks, format, predictor.classes, dataset) if save_masks else None
        if seen and not _labelled(dataset):
            lines.begin("predicting")
            for result, _ in predict_all(predictor, [dataset.images[index] for index in ours], windows, **options):
                if isinstance(result, Failure):
                    raise ImageError(result.message)
                seen(result)
                lines.advance(1)
            lines.line(f"{len(ours)} masks in {save_masks}; {split} has no masks of its own to score them by", err=True)
            return
        lines.begin("evaluating")
        evaluation = score(
            predictor,
            dataset,
            trimap=cast(Any, trimap or ("auto" if report else None)),
            boundary=boundary or report is not None,
            calibration=calibration or report is not None,
            windows=windows,
            distributed=True,
            seen=seen,
            progress=lambda *_: lines.advance(1),
            **options,
        )
        if number == 0 and report:
            lines.begin("writing the report")
            title = f"{model} on {data.resolve().name}/{split}"
            write_report(report, evaluation, predictor, dataset, title=title, windows=windows, **options)
    if number == 0:
        _tell(evaluation, json)


def _open(data: Path, split: str, unlabelled: bool) -> "SegmentationDataset":
    """A data set; one of photos alone where that is enough, as the splits are that a test server judges."""
    from atrous.data import open_dataset
    from atrous.data.opening import recognise

    if unlabelled:
        layout = recognise(data)
        if split in layout.splits(data):
            dataset = layout.open(data, split)
            if len(dataset) and not _labelled(dataset):
                return dataset
    return open_dataset(data, split)


def _labelled(dataset: "SegmentationDataset") -> bool:
    return any(mask.is_file() for mask in dataset.masks)


def _tell(evaluation: "Evaluation", json: bool) -> None:
    if json:
        typer.echo(json_format.dumps(evaluation.to_dict()))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from atrous.evaluation.report import class_table, score_rows

    header, rows = class_table(evaluation)
    classes = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(header):
        classes.add_column(name, justify="right" if index else "left")
    for row in rows:
        classes.add_row(*row)
    whole = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    whole.add_column()
    whole.add_column(justify="right")
    for index, (name, value) in enumerate(score_rows(evaluation)):
        whole.add_row(name, value, style="" if index else "bold")
    console = Console(highlight=False, markup=False)
    console.print(classes, whole)
    if evaluation.trimap:
        curve = evaluation.trimap.curve()
        bands = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
        bands.title = f"within so many pixels of {'void' if curve.around == 'void' else 'the edges of the labels'}"
        bands.add_column("")
        for width in _SHOWN_WIDTHS:
            bands.add_column(str(width), justify="right")
        for name, values in (("mean IoU", curve.miou), ("pixel accuracy", curve.pixel_accuracy)):
            bands.add_row(name, *(f"{values[curve.widths.index(width)]:.2%}" for width in _SHOWN_WIDTHS))
        console.print(bands)
