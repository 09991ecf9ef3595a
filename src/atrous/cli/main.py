"""The command line: `atrous COMMAND`.

One file a command; to add one, write its function and register it at the end of this file. A command imports
the library inside its function, so that `atrous --help` does not wait for torch.

Exit codes: 0; 1 when some inputs failed and the rest was done; 2 for misuse; 70 for a fault of Atrous itself;
130 when interrupted, 143 when told to end (SIGTERM).
"""

import atexit
import errno
import gc
import os
import sys
import traceback
from io import TextIOWrapper
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperGroup

from atrous import __version__
from atrous.cli.ablate import ablate
from atrous.cli.bench import bench
from atrous.cli.calibrate import calibrate
from atrous.cli.convert import convert
from atrous.cli.crf import crf
from atrous.cli.data import data
from atrous.cli.distill import distill
from atrous.cli.evaluate import evaluate
from atrous.cli.explain import explain
from atrous.cli.export import export
from atrous.cli.models import models
from atrous.cli.predict import predict
from atrous.cli.train import train
from atrous.errors import AtrousError
from atrous.stopping import ending_on_sigterm


class _Commands(TyperGroup):
    """Turns what a command raises into one line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # `atrous predict x --debug` is what a person types after an error: found wherever it stands.
        options = args[: args.index("--")] if "--" in args else args
        if "--debug" in options:
            args = ["--debug", *(arg for arg in options if arg != "--debug"), *args[len(options) :]]
        if "--out=" in options or any(option in ("--out", "-o") and not value for option, value in pairwise(options)):
            # An unset variable of a script, most likely; as a path it would be the current folder.
            _explain("atrous: error: --out: is empty: give a file or a folder, or . for this one", debug=False)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        debug = bool(ctx.params.get("debug"))
        try:
            return super().invoke(ctx)
        except AtrousError as error:
            _explain(f"atrous: error: {error}", debug)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _explain("atrous: interrupted", debug)
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone, as in `| head`: typer ends quietly
                raise
            # A file that may not be read, a full disk: not ours to mend.
            where = f"{os.fsdecode(error.filename)}: {error.strerror}" if error.filename else str(error)
            _explain(f"atrous: error: {where}", debug)
            raise typer.Exit(2 if error.filename else 70) from None
        except Exception as error:
            if type(error).__module__.split(".")[0] in ("typer", "click"):  # its own report of wrong usage
                raise
            name = type(error).__name__
            _explain(f"atrous: internal error: {name}: {error} (add --debug to see where)", debug)
            raise typer.Exit(70) from None


def _explain(line: str, debug: bool) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)
    typer.echo(line, err=True)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"atrous {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version and stop."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error; may stand anywhere."),
) -> None:
    """Atrous: the DeepLab family. Photos in, masks out."""


app.command()(predict)
app.command()(models)
app.command("eval")(evaluate)
app.command()(train)
app.command()(distill)
app.command()(convert)
app.command()(export)
app.command()(calibrate)
app.command()(bench)
app.add_typer(explain, name="explain")
app.command()(ablate)
app.add_typer(data, name="data")
app.add_typer(crf, name="crf")


def main() -> None:
    """The entry point."""
    atexit.register(_end_soon)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a pipe may know neither × nor every name
    with ending_on_sigterm():
        app()


def _end_soon() -> None:
    """Spares Python's last look through everything for garbage: with torch, a fifth of a short command's time."""
    if "triton" not in sys.modules:  # whose bindings would take what is not looked through for leaked, and say so
        gc.freeze()
