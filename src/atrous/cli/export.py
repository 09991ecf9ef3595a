"""`atrous export`: a model as a file for another runtime."""

from pathlib import Path
from typing import Any

import typer

from atrous.cli.outputs import writable
from atrous.errors import AtrousError


def export(
    source: str = typer.Argument(
        ..., help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`."
    ),
    out: Path = typer.Option(
        ..., "--out", "-o", callback=writable, help="File to write, or a folder for model.onnx and so on."
    ),
    format: str = typer.Option("onnx", help="onnx, onnx-int8, openvino, torch, or litert."),
    size: str = typer.Option("dynamic", help="HxW of all photos, e.g. 513x513; dynamic for any."),
    output: str = typer.Option("labels", help="labels (uint8) or logits (float32), at the photos' own size."),
    calibration: Path | None = typer.Option(
        None, help="For int8: a folder of photos, or a labelled one as for `atrous eval`."
    ),
) -> None:
    """Write a model for another runtime: a photo's bytes in, labels out, and all that lies between in the file.

    The file is opened by its own runtime and compared with torch before it takes its name.
    """
    options: dict[str, Any] = {"size": parse_size(size), "output": output, "calibration": calibration}

    from atrous.cli.progress import report
    from atrous.export import export_model

    with report(1) as lines:
        lines.begin(f"exporting {source}")
        done = export_model(source, out, format, **options, progress=lines.begin)
    files = [done.path, done.path.with_suffix(".bin")] if format == "openvino" else [done.path]
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    whose = "the float model's" if format.endswith("int8") else "torch's"
    typer.echo(f"wrote {done.path} ({megabytes:.1f} MB): {done.agreement:.2%} of the pixels have {whose} label")
    if done.miou:
        typer.echo(
            f"mean IoU on labelled photos that were held out: {done.miou[0]:.2%}, the float model's {done.miou[1]:.2%}"
        )


def parse_size(text: str) -> tuple[int, int] | None:
    """`--size`: height and width, e.g. "513x769"; None for "dynamic"."""
    if text == "dynamic":
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise AtrousError(f"--size {text!r}: give height and width, e.g. 513x769, or dynamic")
    return int(height), int(width)
