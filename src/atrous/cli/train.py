"""`atrous train`: from a recipe and a labelled folder to a model."""

from pathlib import Path

import typer

from atrous.errors import AtrousError


def train(
    recipe: Path = typer.Argument(..., help="A recipe, e.g. recipes/camvid.yaml."),
    data: Path = typer.Option(..., "--data", help="A labelled data set, as `atrous data check` knows it."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for the model, its metrics and the checkpoint."),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a key: optimizer.lr=0.01."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the checkpoint in --out as if never stopped."),
    workers: int = typer.Option(1, min=0, help="Processes that prepare samples."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
) -> None:
    """Train a model; --out then holds one that `atrous predict --model` takes."""
    try:
        from atrous.training import load_recipe
        from atrous.training import train as run
    except ModuleNotFoundError as error:
        if error.name != "lightning":
            raise
        raise AtrousError("training needs Lightning: pip install 'atrous[train]'") from None
    scores = run(
        load_recipe(recipe, overrides),
        data,
        out,
        resume=resume,
        recipe_name=recipe.name,
        workers=workers,
        device=device,
    )
    typer.echo(f"mIoU {scores.miou:.2%}, pixel accuracy {scores.pixel_accuracy:.2%}; the model is in {out}")
