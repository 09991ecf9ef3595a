"""`atrous predict`: photos to masks and overlays."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atrous.cli.outputs import Kind, find_photos, is_address, name, plan_outputs
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        help="torch, torch-bf16, openvino, openvino-bf16, openvino-int8, onnxruntime, or auto, the fastest here, which "
        "is measured once, or auto-float32, the fastest without rounding; torch if not given, auto for 20 photos or "
        "more.",
    ),
    batch_size: int = typer.Option(8, help="Photos of one size that go through an accelerator together."),
    json: bool = typer.Option(
        False,
        "--json",
        help="One JSON object a photo on stdout; then --out may be left out, to write no files.",
    ),
    crf: str | None = typer.Option(
        None, help="Refine with a fully connected CRF: voc, another name, or a file of `atrous crf fit`."
    ),
    cluster: str | None = typer.Option(
        None,
        help="ray: spread the photos over a Ray cluster, or this machine's processors. Inputs and --out may be "
        "addresses, s3://bucket/folder; a run that was stopped goes on.",
    ),
    workers: int | None = typer.Option(None, min=1, help="Processes on the cluster; as many as it can hold."),
) -> None:
    """Label every pixel of photos; write masks and overlays, and print the share of each class.

    Exits with 0; with 1 when some inputs failed (the others are written); with 2 when it is misused.
    """
    options: Keywords = {"scales": parse_scales(scales), "flip": flip, "tile": tile, "batch_size": batch_size}
    if crf is not None:
        options["crf"] = crf
    if out is None and not json:
        raise AtrousError("nowhere to write: give --out DIRECTORY, or --json to print the areas alone")
    if cluster not in (None, "ray"):
        raise AtrousError(f"--cluster {cluster!r}: there is one kind, ray")
    if workers and not cluster:
        raise AtrousError("--workers goes with --cluster ray")
    if out is None and (mask or overlay or both):
        raise AtrousError("--mask, --overlay and --both are written to --out: give it a directory")
    if out and is_address(out) and not cluster:
        raise AtrousError(f"--out {name(out)}: is an address: add --cluster ray, which writes to buckets too")
    asked: dict[Kind, bool] = {"mask": mask, "overlay": overlay}
    kinds = [kind for kind in asked if both or asked[kind] or not any(asked.values())]
    if cluster:
        from atrous.cli.spreading import list_bucket
    photos, failures = find_photos(inputs, list_bucket if cluster else None)
    if not photos:
        raise AtrousError(failures[0])
    files = plan_outputs(photos, out, kinds) if out else [{} for _ in photos]

    from atrous.cli.progress import report

    with report(len(photos)) as lines:
        for failure in failures:
            lines.line(f"atrous: {failure}", err=True)
        lines.begin(f"loading {model}")
        from atrous.cli.writing import Kept, Written, write_behind
        from atrous.crf import parse_crf, prepare
        from atrous.inference import Failure, load
        from atrous.ops import keep_freed_memory
        from atrous.weights import open_model

        outcomes: Iterator[Written | Kept | Failure]
        if cluster:
            from atrous.cli.spreading import predict_spread

            opened = open_model(model, progress=lines.fetched)
            lines.begin("starting the cluster")
            given = {"workers": workers, "device": device, "engine": engine or "torch", **options}
            outcomes = predict_spread(opened, photos, files, out, lines.advance, **given)
        else:
            # Measuring and starting another engine takes seconds, which a few photos do not give back.
            chosen = engine or ("auto" if len(photos) >= _WORTH_MEASURING else "torch")
            keep_freed_memory()
            predictor = load(model, device, engine=chosen, progress=lines.fetched)
            if crf is not None:
                lines.begin("preparing the CRF")
                prepare(parse_crf(crf), predictor.device)
            paths = [photo.path for photo in photos]
            outcomes = write_behind(photos, files, predictor.timed_stream(paths, lines.advance, **options))
        lines.begin("predicting")
        begun = time.perf_counter()
        written, kept = 0, 0
        for done in outcomes:
            if isinstance(done, Failure):
                failures.append(str(done))
                lines.line(f"atrous: {done}", err=True)
            elif isinstance(done, Written):
                written += 1
                lines.line(done.to_json() if json else done.to_text())
            else:
                kept += 1
        taken = time.perf_counter() - begun
    typer.echo(_summary(written, kept, len(failures), taken, out), err=True)
    if failures:
        raise typer.Exit(1)


def parse_scales(text: str) -> tuple[float, ...]:
    """The numbers of `--scales`, e.g. ".5,.75,1"."""
    try:
        return tuple(float(scale) for scale in text.split(","))
    except ValueError:
        raise AtrousError(f"--scales {text!r}: give numbers with commas between them, e.g. .5,.75,1") from None


def _summary(written: int, kept: int, failed: int, seconds: float, out: Path | None) -> str:
    photos = "1 photo" if written == 1 else f"{written} photos"
    rate = f" ({written / seconds:.1f} a second)" if written > seconds else ""
    where = f" to {name(out)}" if out else ""
    before = f", {kept} were there already" if kept else ""
    failures = f", {failed} failed" if failed else ""
    return f"{photos} in {seconds:.1f} s{rate}{where}{before}{failures}"
