"""`atrous crf`: parameters of the fully connected CRF."""

from pathlib import Path

import typer

from atrous.cli.outputs import writable_file
from atrous.cli.predict import parse_scales

crf = typer.Typer(no_args_is_help=True, help="Parameters of the fully connected CRF.")


@crf.callback()
def _group() -> None:
    """Parameters of the fully connected CRF."""


@crf.command()
def fit(
    model: str = typer.Argument(
        ...,
        help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`.",
    ),
    data: Path = typer.Option(..., "--data", help="Labelled data, as for `atrous eval`."),
    out: Path = typer.Option(..., "--out", "-o", callback=writable_file, help="YAML file to write, for `--crf`."),
    split: str = typer.Option("val", help="Which of its splits."),
    photos: int = typer.Option(100, help="How many of its photos, evenly spaced; the papers take 100."),
    start: str = typer.Option("voc", help="Whose spatial kernel to keep: a name as for `--crf`, or a file."),
    scales: str = typer.Option("1", help="Scales to average over, between commas: .5,.75,1,1.25"),
    flip: bool = typer.Option(False, "--flip", help="Average over each photo and its mirror image."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
) -> None:
    """Search the CRF's bilateral weight and widths on labelled photos, coarse to fine, as v1 and v2 did."""
    chosen = parse_scales(scales)

    from atrous.cli.progress import report
    from atrous.crf import parse_crf, prepare
    from atrous.data import open_dataset
    from atrous.evaluation.fit_crf import fit_crf
    from atrous.inference import load

    first = parse_crf(start)
    dataset = open_dataset(data, split)
    count = min(photos, len(dataset))
    with report(count) as lines:
        lines.begin(f"loading {model}")
        predictor = load(model, device, progress=lines.fetched)
        lines.begin("preparing the CRF")
        prepare(first, predictor.device)
        lines.begin("searching")
        found = fit_crf(
            predictor,
            dataset,
            photos,
            first,
            progress=lambda share: lines.advance(share * count),
            scales=chosen,
            flip=flip,
        )
    found.save(out, f"atrous crf fit {model} --split {split} --photos {count}")
    typer.echo(f"wrote {out}: mean IoU {found.miou:.2%}, {found.without:.2%} without a CRF")
