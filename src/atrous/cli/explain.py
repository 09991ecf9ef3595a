"""`atrous explain IDEA`: the papers' ideas as pictures and numbers."""

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from atrous.cli.outputs import writable
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from atrous.explain import Explanation
    from atrous.inference import Predictor

explain = typer.Typer(
    no_args_is_help=True,
    help="Show the papers' ideas as pictures and numbers, from the code itself.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_MODEL_HELP = (
    "A name that `atrous models` lists, a directory, or a checkpoint as for `atrous convert`; or the name of an "
    "architecture, which gets random weights."
)
_OUT_HELP = "The picture: .png, .svg or .pdf; its arrays are written beside it as .npz."
_JSON_HELP = "One JSON object on stdout instead of a table."

_MODEL = typer.Option("street", "--model", "-m", help=_MODEL_HELP)
_PHOTO = typer.Option(..., "--photo", help="The photo; your own tells you most.")
_JSON = typer.Option(False, "--json", help=_JSON_HELP)
_DEVICE = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps.")


@explain.command("valid-weights")
def valid_weights(
    size: str = typer.Option("65", help="The map: its side, or HEIGHTxWIDTH, in positions."),
    rates: str = typer.Option("", help="Rates, between commas; 1 to the map's side if not given."),
    kernel: int = typer.Option(3, help="Side of the kernel."),
    out: Path = typer.Option(Path("valid_weights.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
) -> None:
    """Count how many weights of an atrous kernel meet the map rather than its padding (v3, figure 4)."""
    _check(out)
    height, width = _size(size)
    from atrous.explain import valid_weights as explained

    # A kernel with an even side is centred at even rates alone.
    step = 1 if kernel % 2 else 2
    chosen = _numbers("--rates", rates) if rates else range(step, min(max(height, width), 256) + 1, step)
    found = explained((height, width), chosen, kernel)
    shares = found.shares
    every = max(1, len(found.rates) // 16)
    rows = [
        (rate, *(f"{shares[row, count]:.1%}" for count in found.occurring), f"{found.means[row]:.2f}")
        for row, rate in enumerate(found.rates)
        if row % every == 0 or row == len(found.rates) - 1
    ]
    _tell(found, out, json, ("rate", *(f"{count} valid" for count in found.occurring), "mean"), rows)


@explain.command()
def gridding(
    rates: list[str] = typer.Option(
        [], help="A stack's rates from the first layer to the last, e.g. 1,2,3; may be given several times."
    ),
    kernel: int = typer.Option(3, help="Side of the kernels."),
    out: Path = typer.Option(Path("gridding.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
) -> None:
    """Show which input pixels reach an output through a stack of rates, and how hybrid rates fill the holes."""
    _check(out)
    stacks = [_numbers("--rates", given) for given in rates]
    from atrous.explain import gridding as explained

    found = explained(stacks, kernel) if stacks else explained(kernel_size=kernel)
    rows = [
        (", ".join(map(str, stack.rates)), f"{stack.side}×{stack.side}", f"{stack.reached:.1%}", stack.step)
        for stack in found.stacks
    ]
    _tell(found, out, json, ("rates", "sees", "of which reached", "largest step"), rows)


@explain.command("receptive-field")
def receptive_field(
    model: str = _MODEL,
    layer: str = typer.Option("backbone", help="Its name in the network; '' is the coarse logits."),
    photo: Path | None = typer.Option(None, "--photo", help="Take the gradient on this photo rather than on noise."),
    at: str = typer.Option("", help="The pixel to look at, ROW,COLUMN; the centre if not given."),
    size: int = typer.Option(513, help="Side of the noise, in pixels."),
    samples: int = typer.Option(8, help="How many images of noise, and random signs, are averaged over."),
    out: Path = typer.Option(Path("receptive_field.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
    device: str = _DEVICE,
) -> None:
    """Show what one position of a layer sees: in theory, and in effect (by its gradient)."""
    _check(out, photo)
    position = _numbers("--at", at) if at else None
    if position is not None and len(position) != 2:
        raise AtrousError(f"--at {at!r}: give ROW,COLUMN, e.g. 120,200")
    from atrous.cli.progress import report
    from atrous.explain import prepare
    from atrous.explain import receptive_field as explained

    with report(1, counted=False) as lines:
        lines.begin(f"loading {model}")
        predictor = _predictor(model, device)
        lines.begin("measuring")
        found = explained(
            predictor.model,
            layer,
            photo=prepare(predictor, photo) if photo else None,
            size=size,
            position=(position[0], position[1]) if position else None,
            samples=samples,
            progress=lines.advance,
        )
    theory = "the whole image" if found.extent is None else f"{found.extent[0]}×{found.extent[1]} px"
    rows = [
        ("theoretical", theory),
        *((f"{share:.0%} of the gradient within", f"{found.side_holding(share)}² px") for share in (0.5, 0.95)),
        ("stride", f"{found.stride} px"),
    ]
    _tell(found, out, json, (layer or "logits", ""), rows)


@explain.command("output-stride")
def output_stride(
    photo: Path = _PHOTO,
    model: str = _MODEL,
    strides: str = typer.Option("8,16,32", help="Output strides to compare, between commas."),
    out: Path = typer.Option(Path("output_stride.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
    device: str = _DEVICE,
) -> None:
    """Show what downsampling loses on a photo: the same weights at several output strides."""
    _check(out, photo)
    chosen = _numbers("--strides", strides)
    from atrous.cli.progress import report
    from atrous.explain import output_strides

    with report(1, counted=False) as lines:
        lines.begin(f"loading {model}")
        predictor = _predictor(model, device)
        lines.begin("predicting")
        found = output_strides(predictor, photo, chosen, lines.advance)
    rows = [
        (stride, f"{changed:.2%}", *("" if share != share else f"{share:.1%}" for share in kept))
        for stride, changed, kept in zip(found.strides, found.changed, found.kept, strict=True)
    ]
    header = ("output stride", "labels changed", *(f"kept, {name} px thick" for name in found.ranges))
    _tell(found, out, json, header, rows)


@explain.command()
def aspp(
    photo: Path = _PHOTO,
    model: str = _MODEL,
    out: Path = typer.Option(Path("aspp.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
    device: str = _DEVICE,
) -> None:
    """Show each branch of ASPP on a photo: its response, what it gives to the labels, and what goes without it."""
    _check(out, photo)
    from atrous.cli.progress import report
    from atrous.explain import aspp_response

    with report(1, counted=False) as lines:
        lines.begin(f"loading {model}")
        predictor = _predictor(model, device)
        lines.begin("taking ASPP apart")
        found = aspp_response(predictor, photo, lines.advance)
    rows = [
        (branch["name"], f"{branch['share_of_score']:+.1%}", f"{branch['labels_changed_without']:.2%}")
        for branch in found.numbers()["branches"]
    ]
    _tell(found, out, json, ("branch", "of the winners' score", "labels changed without it"), rows)


@explain.command()
def crf(
    photo: Path = _PHOTO,
    model: str = _MODEL,
    params: str = typer.Option("voc", "--crf", help="Its weights and widths, as for `atrous predict --crf`."),
    iterations: int = typer.Option(10, help="How many; the papers take 10."),
    follow: str | None = typer.Option(
        None, help="The class whose probability is shown; by itself the one whose area changes most."
    ),
    out: Path = typer.Option(Path("crf.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
    device: str = _DEVICE,
) -> None:
    """Show a photo's labels and probabilities after each iteration of the fully connected CRF."""
    _check(out, photo)
    from atrous.cli.progress import report
    from atrous.crf import parse_crf
    from atrous.explain import crf_iterations

    chosen = parse_crf(params)
    with report(1, counted=False) as lines:
        lines.begin(f"loading {model}")
        predictor = _predictor(model, device)
        lines.begin("refining")
        found = crf_iterations(predictor, photo, chosen, iterations, follow, lines.advance)
    above = found.energy - found.energy[-1]
    rows = [
        (state, f"{changed:.3%}" if state else "", f"{above[state]:.1f}")
        for state, changed in enumerate([0.0, *found.changed])
    ]
    _tell(found, out, json, ("iteration", "labels changed", "KL(Q ‖ P), above the last"), rows)


@explain.command()
def spp(
    photo: Path | None = typer.Option(None, "--photo", help="Pool a model's features of this photo."),
    model: str = _MODEL,
    levels: str = typer.Option("4,2,1", help="n of the n×n bins at each level, between commas."),
    out: Path = typer.Option(Path("spp.png"), "--out", "-o", callback=writable, help=_OUT_HELP),
    json: bool = _JSON,
) -> None:
    """Show the bins of spatial pyramid pooling, ASPP's ancestor."""
    _check(out, photo)
    chosen = _numbers("--levels", levels)
    from atrous.explain import spp_bins, spp_of_photo

    found = spp_of_photo(_predictor(model, "cpu"), photo, chosen) if photo else spp_bins(levels=chosen)
    rows = []
    for level, n in enumerate(found.levels):
        heights, widths = (
            found.bins[found.of_level(level)][:, [2, 3]] - found.bins[found.of_level(level)][:, :2] + 1
        ).T
        rows.append((f"{n}×{n}", f"{_range(heights)} × {_range(widths)}"))
    _tell(found, out, json, ("bins", "positions each"), rows)


@explain.command()
def paper(
    which: str = typer.Argument(..., metavar="PAPER", help="v1, v2, v3 or v3plus."),
    photo: Path = _PHOTO,
    model: str | None = typer.Option(None, "--model", "-m", help=f"{_MODEL_HELP} By itself street for v3plus."),
    out: Path | None = typer.Option(
        None, "--out", "-o", callback=writable, help="The page: .html; PAPER.html if not given."
    ),
    json: bool = _JSON,
) -> None:
    """Walk a photo through a paper's model, stage by stage, on one page."""
    page = out or Path(f"{which}.html")
    if page.suffix.lower() not in (".html", ".htm"):
        raise AtrousError(f"--out {page}: the page is HTML: give a name that ends in .html")
    from atrous.cli.progress import report
    from atrous.explain import explain_paper, paper_page

    with report(1, counted=False) as lines:
        lines.begin(f"walking through {which}")
        walk = explain_paper(which, photo, model, progress=lines.advance)
        paper_page(walk).save(page)
    if json:
        typer.echo(json_format.dumps({**walk.numbers(), "files": [str(page)]}))
        return
    if not walk.trained:
        typer.echo(f"atrous: {walk.model} has random weights here: --model takes trained ones", err=True)
    typer.echo(f"{walk.model}: {len(walk.stages)} stages, {walk.parameters:,} parameters; written to {page}")


def _predictor(model: str, device: str) -> "Predictor":
    from atrous.explain import open_predictor

    predictor, trained = open_predictor(model, device)
    if not trained:
        typer.echo(f"atrous: {model} has random weights here: --model takes trained ones", err=True)
    return predictor


def _check(out: Path, photo: Path | None = None) -> None:
    """Refuses a picture that could not be written, or that would replace the photo, with its arrays beside it."""
    from atrous.viz.plots import check_suffix

    check_suffix(out)
    for written in (out, out.with_suffix(".npz")):
        if photo and written.exists() and photo.exists() and written.samefile(photo):
            raise AtrousError(f"--out {out}: would be written over the photo: give another name")


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise AtrousError(f"{option} {text!r}: give whole numbers with commas between them, e.g. 1,2,3") from None


def _size(text: str) -> tuple[int, int]:
    sides = text.lower().replace("×", "x").split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise AtrousError(f"--size {text!r}: give a side or HEIGHTxWIDTH, e.g. 65 or 33x65")
    return int(sides[0]), int(sides[-1])


def _range(sides: Any) -> str:
    low, high = int(sides.min()), int(sides.max())
    return str(low) if low == high else f"{low} to {high}"


def _tell(found: "Explanation", out: Path, json: bool, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from atrous.explain import save

    files = save(found, out)
    if json:
        typer.echo(json_format.dumps({**found.numbers(), "files": [str(path) for path in files]}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*map(str, row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no width to wrap for
    console.print(table)
    typer.echo(f"written to {' and '.join(map(str, files))}")
