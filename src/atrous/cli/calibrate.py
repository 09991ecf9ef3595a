"""`atrous calibrate`: a model that runs in 8 bits."""

from pathlib import Path

import typer

from atrous.cli.outputs import writable
from atrous.errors import AtrousError

_GOOD = 0.97  # of the labels: below, a person should look before using it


def calibrate(
    source: str = typer.Argument(
        ..., help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`."
    ),
    photos: Path = typer.Option(
        ..., help="A folder of photos of the kind that the model is for, or a labelled one as for `atrous eval`."
    ),
    out: Path = typer.Option(
        ..., "--out", "-o", callback=writable, help="Directory to write: config.json and model.safetensors."
    ),
) -> None:
    """Write a model that the engine openvino-int8 runs, several times as fast: in 8 bits, by steps that fit photos.

    The weights stay in float. Of the photos some show how large the network's numbers get; others are held out, and
    tell how many pixels get another label in 8 bits.
    """
    if out.is_file():
        raise AtrousError(f"--out {out}: is a file; give a directory")
    if not photos.is_dir():
        raise AtrousError(f"--photos {photos}: no such folder")

    from atrous.cli.progress import report
    from atrous.export import calibrate as calibrated
    from atrous.inference import load

    with report(1, counted=False) as lines:
        lines.begin(f"reading {source}")
        predictor = load(source, "cpu", progress=lines.fetched)
        done = calibrated(predictor, photos, lines.begin, lines.advance)
        done.predictor.save(out)
    agreement, (seen, held_out) = done.loss.agreement, done.photos
    typer.echo(f"wrote {out}; try: atrous predict PHOTO --model {out} --engine openvino-int8")
    typer.echo(f"by {seen} photos; of {held_out} held out {agreement:.2%} of the pixels have the float model's label")
    if done.loss.miou:
        typer.echo(f"mean IoU on these: {done.loss.miou[0]:.2%}, the float model's {done.loss.miou[1]:.2%}")
    if agreement < _GOOD:
        typer.echo(
            f"atrous: below {_GOOD:.0%}: look at its masks before you use them, or calibrate by photos that are more "
            "like those that it was trained on",
            err=True,
        )
