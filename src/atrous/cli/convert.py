"""`atrous convert`: another project's checkpoint to a model here, or a model here to another project's."""

from pathlib import Path

import typer

from atrous.cli.outputs import writable
from atrous.errors import AtrousError

_SUFFIXES = (".pth", ".pt", ".safetensors")


def convert(
    source: str = typer.Argument(..., help="A checkpoint, a directory with one, or a published model's name."),
    out: Path = typer.Argument(
        ..., callback=writable, help="Directory to write; with --to a file, .pth or .safetensors."
    ),
    to: str | None = typer.Option(None, "--to", help="Write for another project: torchvision, smp, timm, …"),
    classes: str | None = typer.Option(
        None, help="Class names: voc, cityscapes, ade20k, a text file with one a line, or names between commas."
    ),
    output_stride: int | None = typer.Option(None, help="8, 16 or 32, where the file does not tell."),
    settings: list[str] = typer.Option(
        [], "--set", metavar="KEY=VALUE", help="Another option of the architecture, e.g. aspp_rates=[6,12,18]."
    ),
    half: bool = typer.Option(False, "--half", help="Store the kernels in half precision: half the size."),
) -> None:
    """Recognise a checkpoint and write it as a model of Atrous: config.json and model.safetensors.

    Known are torchvision, timm, transformers, segmentation_models.pytorch, mmsegmentation, VainF, jfzhang95,
    kazuto1011, Google's TensorFlow checkpoints and its TFLite models. Nothing in a file is run.
    """
    if to is not None and out.suffix not in _SUFFIXES:
        raise AtrousError(f"{out}: with --to give a file that ends in {', '.join(_SUFFIXES)}")
    if to is None and out.is_file():
        raise AtrousError(f"{out}: a file; give a directory to write config.json and model.safetensors to")
    from atrous.settings import parse_override

    options = dict(parse_override(setting) for setting in settings)
    if no_option := options.keys() & {"source", "progress", "classes"}:
        raise AtrousError(f"--set {min(no_option)}: is no option of an architecture; classes are given by --classes")
    if output_stride is not None:
        options["output_stride"] = output_stride
    if classes is not None:
        options["classes"] = parse_classes(classes)

    import torch

    from atrous.cli.progress import report
    from atrous.weights import export_state, open_model, save_model, write_state

    with report(1) as lines:
        lines.begin(f"reading {source}")
        opened = open_model(source, progress=lines.fetched, **options)
        lines.line(opened.found)
        lines.begin("writing")
        if to is None:
            save_model(opened.model, opened.card, out, torch.float16 if half else None)
        else:
            write_state(export_state(opened.model, to), out)
    size = (out / "model.safetensors" if to is None else out).stat().st_size
    typer.echo(f"wrote {out} ({size / 1e6:.1f} MB)" + ("" if to else f"; try: atrous predict PHOTO --model {out}"))


def parse_classes(text: str) -> str | list[str]:
    """A data set's name, the lines of a file, or names between commas."""
    path = Path(text)
    if path.is_file():
        try:
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise AtrousError(f"{path}: not a text file; write one class name on each line") from None
    return [name.strip() for name in text.split(",")] if "," in text else text
