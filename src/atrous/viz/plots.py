"""Plots in one style: a matplotlib figure without pyplot, so that nothing global is changed and no screen is needed."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from atrous.errors import AtrousError
from atrous.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by the colour-blind too; black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
SUFFIXES = (".png", ".svg", ".pdf")

_STYLE: dict[Any, Any] = {  # Any: matplotlib types its keys as one long literal
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text: it can be searched and copied
    "svg.hashsalt": "atrous",  # the same figure gives the same file
    "text.parse_math": False,  # names of classes are no formulas
}


def figure(width: float = 8.0, height: float = 4.5) -> "Figure":
    """An empty figure of that many inches, laid out so that labels do not overlap; axes come from `.subplots()`."""
    from cycler import cycler
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {**_STYLE, "axes.prop_cycle": cycler(color=COLOURS)}

    # Axes read the style when they are made: `subplots` and `add_subplot` run within it too.
    class Styled(Figure):
        def add_subplot(self, *args, **options):  # type: ignore[no-untyped-def]
            with rc_context(style):
                return super().add_subplot(*args, **options)

    with rc_context(style):
        made = Styled(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: "Figure", path: str | Path) -> Path:
    """Writes a figure as its path's suffix says: .png, .svg or .pdf.

    Raises:
        AtrousError: another suffix, or a place that cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    with replacing(path) as unfinished:
        write(made, unfinished, path.suffix.lower()[1:])
    return path


def check_suffix(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Refuses a path to which no plot can be saved, before the work is done that it would show."""
    if path.suffix.lower() not in suffixes:
        raise AtrousError(f"{path}: a plot is saved as {', '.join(suffixes[:-1])} or {suffixes[-1]}")


def write(made: "Figure", file: Path | IO[bytes], format: str) -> None:
    """As `save`, to a path or an open file, without a date in it."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for text in made.findobj(Text):
        text.set_parse_math(False)  # names of classes are no formulas
    with rc_context(_STYLE), warnings.catch_warnings():
        if format == "svg":  # whose text stays text, for the reader's own fonts
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
        made.savefig(file, format=format, metadata=dates.get(format))
