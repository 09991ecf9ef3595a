"""`atrous models`: what can be loaded by name."""

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from atrous.cli.architectures import print_architectures

if TYPE_CHECKING:
    from rich.table import Table

    from atrous.weights import ModelCard


def models(
    architectures: bool = typer.Option(False, "--architectures", help="The networks that can be trained, instead."),
    size: int = typer.Option(513, min=1, help="The input's side that their multiply-adds are counted for."),
    json: bool = typer.Option(False, "--json", help="One JSON object a model, with all that is known of it."),
) -> None:
    """List the models that `--model` takes by name: those that come with Atrous, and published ones that it fetches."""
    if architectures:
        print_architectures(size, json)
        return
    from atrous.weights import is_fetched, list_bundled, list_zoo, read_card

    described = [_describe(name, *read_card(name)) for name in list_bundled()]
    published = [{**asdict(entry), "fetched": is_fetched(entry)} for entry in list_zoo()]
    if json:
        for model in (*described, *published):
            typer.echo(json_format.dumps(model))
        return
    if described:
        _print_table(described)
    else:
        typer.echo("No model comes with this installation. Load your own: --model DIRECTORY or FILE")
    typer.echo("\nPublished by others; fetched when first named, and kept:\n")
    _print_published(published)


def _describe(name: str, config: dict[str, Any], card: "ModelCard") -> dict[str, Any]:
    return {
        "name": name,
        "architecture": config["name"],
        "output_stride": config.get("output_stride"),
        "parameters": _parameters(config),
        "classes": list(card.classes),
        "licence": card.licence,
        "description": card.description,
        "provenance": card.provenance,
    }


def _parameters(config: dict[str, Any]) -> int:
    import torch

    from atrous.models import create_model

    with torch.device("meta"):  # shapes only, no memory and no random numbers
        return sum(parameter.numel() for parameter in create_model(**config).parameters())


def _print_table(described: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True, style="bold")
    for title in ("architecture", "parameters", "classes", "trained on", "scores", "licence"):
        table.add_column(title, overflow="fold")
    for model in described:
        table.add_row(
            model["name"],
            model["architecture"],
            f"{model['parameters'] / 1e6:.1f} M",
            f"{len(model['classes'])}: {', '.join(model['classes'])}",
            str(model["provenance"].get("trained_on", "")),
            _scores(model["provenance"].get("scores", {})),
            model["licence"],
        )
    _print(table)


def _print_published(published: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", no_wrap=True, style="bold")
    for title in ("classes", "published score", "licence", "here"):
        table.add_column(title, overflow="fold")
    for model in published:
        aliases = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
        here = "yes" if model["fetched"] else ""
        table.add_row(model["name"] + aliases, model["classes"], model["score"], model["licence"], here)
    _print(table)


def _print(table: "Table") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to wrap for
    console.print(table)


def _scores(scores: dict[str, Any]) -> str:
    """The scores that are one number each, and on what; those of single classes are in the JSON."""
    numbers = [f"{name} {value:.4g}" for name, value in scores.items() if isinstance(value, (int, float))]
    return ", ".join(numbers) + (f" on {scores['split']}" if "split" in scores else "")
