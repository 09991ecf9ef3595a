"""`atrous models --architectures`: what can be made with random weights, and what it costs."""

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from atrous.models import Description


def print_architectures(size: int, json: bool) -> None:
    """Prints a table, or one JSON object a network with its layers, for square inputs of `size` pixels a side."""
    import torch

    from atrous.models import create_model, describe, list_models

    described = []
    for name in list_models():
        with torch.device("meta"):  # shapes only, no memory and no random numbers
            description = describe(create_model(name), size)
        if json:
            typer.echo(json_format.dumps(asdict(description)))
        described.append(description)
    if not json:
        _print_table(described, size)


def _print_table(described: "list[Description]", size: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("architecture", no_wrap=True, style="bold")
    table.add_column("parameters", justify="right")
    table.add_column(f"multiply-adds at {size}", justify="right")
    table.add_column("output stride", justify="right")
    table.add_column("paper", overflow="fold")
    table.add_column("held by the tests to", overflow="fold")
    for model in described:
        table.add_row(
            model.name,
            f"{model.parameters:,}",
            f"{model.multiply_adds / 1e9:.2f} G",
            str(model.output_stride),
            model.paper,
            model.verified,
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 220  # a file or a pipe has no width to wrap for
    console.print(table)
