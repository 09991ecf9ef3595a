"""`atrous models`: what can be loaded by name."""

import json as json_format
from typing import TYPE_CHECKING, Any

import typer

from atrous.cli.architectures import print_architectures

if TYPE_CHECKING:
    from atrous.weights import ModelCard


def models(
    architectures: bool = typer.Option(False, "--architectures", help="The networks that can be trained, instead."),
    size: int = typer.Option(513, min=1, help="The input's side that their multiply-adds are counted for."),
    json: bool = typer.Option(False, "--json", help="One JSON object a model, with all that is known of it."),
) -> None:
    """List the models that come with Atrous: classes, size, licence, training and scores."""
    if architectures:
        print_architectures(size, json)
        return
    from atrous.weights import list_bundled, read_card

    found = [(name, *read_card(name)) for name in list_bundled()]
    described = [_describe(name, config, card) for name, config, card in found]
    if json:
        for model in described:
            typer.echo(json_format.dumps(model))
    elif described:
        _print_table(described)
    else:
        typer.echo("No model comes with this installation. Load your own: --model DIRECTORY or FILE.safetensors")


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
    from rich.console import Console
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
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to wrap for
    console.print(table)


def _scores(scores: dict[str, Any]) -> str:
    """The scores that are one number each, and on what; those of single classes are in the JSON."""
    numbers = [f"{name} {value:.4g}" for name, value in scores.items() if isinstance(value, (int, float))]
    return ", ".join(numbers) + (f" on {scores['split']}" if "split" in scores else "")
