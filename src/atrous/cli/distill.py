"""`atrous distill`: from a teacher and photos without masks to a student."""

from pathlib import Path

import typer

from atrous.cli.extras import needs_lightning
from atrous.cli.outputs import writable
from atrous.cli.predict import parse_scales


def distill(
    recipe: Path = typer.Argument(..., help="A recipe's file, or the name of one, e.g. general."),
    teacher: str = typer.Option(..., "--teacher", help="Whatever `atrous predict --model` takes."),
    photos: Path = typer.Option(..., "--photos", help="Folder of photos; they need no masks."),
    out: Path = typer.Option(
        ..., "--out", "-o", callback=writable, help="Folder for the model, its metrics and the teacher's labels."
    ),
    data: Path | None = typer.Option(None, "--data", help="A labelled data set of the teacher's classes, mixed in."),
    scales: str = typer.Option("1", help="Scales at which the teacher sees each photo: .75,1,1.25"),
    flip: bool = typer.Option(False, "--flip", help="The teacher sees each photo mirrored, too."),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a key: distill.temperature=2."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the checkpoint in --out as if never stopped."),
    workers: int = typer.Option(1, min=0, help="Processes that prepare samples."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
) -> None:
    """Train a student on a teacher's labels of photos; --out then holds one that `atrous predict --model` takes."""
    chosen = parse_scales(scales)
    with needs_lightning("training"):
        from atrous.training import load_recipe, oddities
        from atrous.training.distillation import distill as run
        from atrous.training.distillation import soft_lesson
        from atrous.training.stages import refuse_second_run
    from atrous.cli.progress import report
    from atrous.data import find_images

    settings = load_recipe(recipe, overrides)
    for line in oddities(settings):
        typer.echo(f"atrous: {line}", err=True)
    if not resume:
        refuse_second_run(settings, out)
    with report(len(find_images(photos))) as lines:
        lines.begin("the teacher labels")
        lesson = soft_lesson(
            settings,
            teacher,
            photos,
            out / "teacher",
            data=data,
            scales=chosen,
            flip=flip,
            device=device,
            progress=lambda *_: lines.advance(1),
        )
    found = run(settings, lesson, out, resume=resume, recipe_name=recipe.name, workers=workers, device=device)
    foreground = ""
    if found.foreground_iou is not None:
        foreground = f", foreground IoU {found.foreground_iou:.2%} (mean of its classes {found.foreground_miou:.2%})"
    judges = "its teacher" if lesson.held_out else f"{data} {settings.val_split}"
    typer.echo(f"like {judges}: {found.pixels:.2%} of pixels, mIoU {found.miou:.2%}{foreground}; the model is in {out}")
