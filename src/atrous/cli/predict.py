"""`atrous predict`: photos to masks and overlays."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atrous.cli.outputs import Kind, find_photos, plan_outputs
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from atrous.inference.labelling import Keywords

_WORTH_MEASURING = 20  # photos


def predict(
    inputs: list[str] = typer.Argument(..., metavar="INPUT", help="Photos, folders of photos, globs."),
    out: Path | None = typer.Option(
        None, "--out", "-o", help="Folder to write to; files of the same names are replaced, inputs never."
    ),
    model: str = typer.Option(
        "street",
        "--model",
        "-m",
        help="A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`.",
    ),
    mask: bool = typer.Option(False, "--mask", help="Write masks alone: NAME.png, each pixel a class's index."),
    overlay: bool = typer.Option(False, "--overlay", help="Write overlays alone: NAME_overlay.jpg."),
    both: bool = typer.Option(False, "--both", help="Write both, as without any of these three."),
    scales: str = typer.Option("1", help="Scales to average over, between commas: .5,.75,1,1.25"),
    flip: bool = typer.Option(False, "--flip", help="Average over the photo and its mirror image."),
    tile: int | None = typer.Option(
        None, help="Side of overlapping tiles, 0 for none; by itself only for photos above 4 megapixels."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    engine: str | None = typer.Option(
        None,
        help="torch, torch-bf16, openvino, openvino-bf16, onnxruntime, or auto, the fastest of them here, which is "
        "measured once; torch if not given, auto for 20 photos or more.",
    ),
    batch_size: int = typer.Option(8, help="Photos of one size that go through an accelerator together."),
    json: bool = typer.Option(
        False,
        "--json",
        help="One JSON object a photo on stdout; then --out may be left out, to write no files.",
    ),
) -> None:
    """Label every pixel of photos; write masks and overlays, and print the share of each class.

    Exits with 0; with 1 when some inputs failed (the others are written); with 2 when it is misused.
    """
    options: Keywords = {"scales": parse_scales(scales), "flip": flip, "tile": tile, "batch_size": batch_size}
    if out is None and not json:
        raise AtrousError("nowhere to write: give --out DIRECTORY, or --json to print the areas alone")
    asked: dict[Kind, bool] = {"mask": mask, "overlay": overlay}
    kinds = [kind for kind in asked if both or asked[kind] or not any(asked.values())]
    photos, failures = find_photos(inputs)
    if not photos:
        raise AtrousError(failures[0])
    files = plan_outputs(photos, out, kinds) if out else [{} for _ in photos]

    from atrous.cli.progress import report

    with report(len(photos)) as lines:
        for failure in failures:
            lines.line(f"atrous: {failure}", err=True)
        lines.begin(f"loading {model}")
        from atrous.cli.writing import Written, write_behind
        from atrous.inference import load

        # Measuring and starting another engine takes seconds, which a few photos do not give back.
        chosen = engine or ("auto" if len(photos) >= _WORTH_MEASURING else "torch")
        predictor = load(model, device, engine=chosen, progress=lines.fetched)
        lines.begin("predicting")
        begun = time.perf_counter()
        results = predictor.timed_stream([photo.path for photo in photos], lines.advance, **options)
        failed = len(failures)
        for done in write_behind(photos, files, results):
            if isinstance(done, Written):
                lines.line(done.to_json() if json else done.to_text())
            else:
                failed += 1
                lines.line(f"atrous: {done}", err=True)
            del done  # a large photo goes before the next one comes
        taken = time.perf_counter() - begun
    typer.echo(_summary(len(photos) + len(failures) - failed, failed, taken, out), err=True)
    if failed:
        raise typer.Exit(1)


def parse_scales(text: str) -> tuple[float, ...]:
    """The numbers of `--scales`, e.g. ".5,.75,1"."""
    try:
        return tuple(float(scale) for scale in text.split(","))
    except ValueError:
        raise AtrousError(f"--scales {text!r}: give numbers with commas between them, e.g. .5,.75,1") from None


def _summary(written: int, failed: int, seconds: float, out: Path | None) -> str:
    photos = "1 photo" if written == 1 else f"{written} photos"
    rate = f" ({written / seconds:.1f} a second)" if written > seconds else ""
    where = f" to {out}" if out else ""
    failures = f", {failed} failed" if failed else ""
    return f"{photos} in {seconds:.1f} s{rate}{where}{failures}"
