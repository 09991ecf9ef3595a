"""`atrous train`: from a recipe and a labelled folder to a model."""

from pathlib import Path

import typer

from atrous.cli.extras import needs_lightning
from atrous.cli.outputs import writable


def _list_recipes(asked: bool) -> None:
    if asked:
        from atrous.settings import describe_recipe, shipped_recipes

        known = shipped_recipes()
        for name, path in known.items():
            typer.echo(f"{name:{max(map(len, known))}}  {describe_recipe(path)}")
        raise typer.Exit


def train(
    recipe: Path = typer.Argument(..., help="A recipe's file, or the name of one of --recipes."),
    data: Path = typer.Option(..., "--data", help="A labelled data set, as `atrous data check` knows it."),
    out: Path = typer.Option(
        ..., "--out", "-o", callback=writable, help="Folder for the model, its metrics and the checkpoint."
    ),
    overrides: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a key: optimizer.lr=0.01."),
    resume: bool = typer.Option(False, "--resume", help="Go on from the checkpoint in --out as if never stopped."),
    workers: int = typer.Option(1, min=0, help="Processes that prepare samples."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    devices: int = typer.Option(
        1, help="GPUs, or processes on the CPU, that share each batch; torchrun says so itself."
    ),
    nodes: int = typer.Option(1, help="Machines with so many each; torchrun and srun say so themselves."),
    strategy: str = typer.Option(
        "auto", help="ddp (auto with several devices), or fsdp: the weights are shared out too."
    ),
    recipes: bool = typer.Option(
        False, "--recipes", callback=_list_recipes, is_eager=True, help="List the recipes that Atrous comes with."
    ),
) -> None:
    """Train a model; --out then holds one that `atrous predict --model` takes."""
    with needs_lightning("training"):
        from atrous.training import load_recipe, oddities
        from atrous.training import train as run
        from atrous.training.parallel import is_first
    settings = load_recipe(recipe, overrides)
    for line in oddities(settings) if is_first() else ():
        typer.echo(f"atrous: {line}", err=True)
    scores = run(
        settings,
        data,
        out,
        resume=resume,
        recipe_name=recipe.name,
        workers=workers,
        device=device,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
    )
    if is_first():
        typer.echo(f"mIoU {scores.miou:.2%}, pixel accuracy {scores.pixel_accuracy:.2%}; the model is in {out}")
