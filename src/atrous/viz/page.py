"""A report as one HTML file: text, tables and pictures, nothing fetched from anywhere."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.files import replacing
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CSS = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
caption { text-align: left; font-size: .9rem; opacity: .75; padding-bottom: .3rem; }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
tbody tr:hover { background: var(--faint); }
figure { margin: 1rem 0; } figure img, figure svg { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; opacity: .75; }
.plot { background: #fff; padding: .5rem; border-radius: .4rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } .row figure { flex: 1 1 14rem; margin: 0; }
"""


class Page:
    """A page that is written from top to bottom.

    Every method returns the page, so that calls can be chained. Text is shown as it is given: `<` is a `<`.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> "Page":
        return self._add(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> "Page":
        """One paragraph."""
        return self._add(f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> "Page":
        """A table; a column whose every cell holds a number, or nothing, is set flush right."""
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        numeric = [all(_is_number(row[column]) for row in cells) for column in range(len(header))]
        marks = [' class="number"' if number else "" for number in numeric]
        lines = ["<table>", f"<caption>{html.escape(caption)}</caption>" if caption else "", "<thead><tr>"]
        lines += [f"<th{mark}>{html.escape(name)}</th>" for name, mark in zip(header, marks, strict=True)]
        lines.append("</tr></thead><tbody>")
        for row in cells:
            columns = (f"<td{mark}>{html.escape(cell)}</td>" for cell, mark in zip(row, marks, strict=True))
            lines.append(f"<tr>{''.join(columns)}</tr>")
        return self._add("".join([*lines, "</tbody></table>"]))

    def picture(self, picture: "NDArray[np.uint8] | Image.Image | Figure", caption: str = "") -> "Page":
        """A uint8 H×W×3 RGB array, a PIL image, or a plot (drawn as SVG)."""
        return self._add(_figure(picture, caption))

    def pictures(self, pictures: "Iterable[tuple[NDArray[np.uint8] | Image.Image | Figure, str]]") -> "Page":
        """Pictures with their captions, side by side where there is room."""
        inner = "".join(_figure(picture, caption) for picture, caption in pictures)
        return self._add(f'<div class="row">{inner}</div>')

    def html(self) -> str:
        """The page as text."""
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_CSS}</style>"
        )
        body = "\n".join(self._parts)
        return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'

    def save(self, path: str | Path) -> Path:
        """Writes the page; it stands there whole or not at all.

        Raises:
            AtrousError: a place that cannot be written.
        """
        with replacing(path) as unfinished:
            unfinished.write_text(self.html(), encoding="utf-8")
        return Path(path)

    def _add(self, part: str) -> "Page":
        self._parts.append(part)
        return self


def _figure(picture: "NDArray[np.uint8] | Image.Image | Figure", caption: str) -> str:
    alt = html.escape(caption, quote=True)
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        kind, data = _compressed(picture)
        inner = f'<img alt="{alt}" src="{_data_url(kind, data)}">'
    else:
        svg = io.BytesIO()
        plots.write(picture, svg, "svg")
        # As an image, so that names within one plot do not meet those of another.
        inner = f'<img class="plot" alt="{alt}" src="{_data_url("svg+xml", svg.getvalue())}">'
    return f"<figure>{inner}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _compressed(image: Image.Image) -> tuple[str, bytes]:
    """Photos as JPEG; what is small or has few colours, as masks do, as PNG, which keeps its edges."""
    file = io.BytesIO()
    rgb = image.convert("RGB")
    if rgb.width * rgb.height <= 64 * 64 or rgb.getcolors(256) is not None:
        rgb.save(file, "PNG", optimize=True)
        return "png", file.getvalue()
    rgb.save(file, "JPEG", quality=88)
    return "jpeg", file.getvalue()


def _is_number(cell: str) -> bool:
    text = cell.strip().rstrip("%×").replace(",", "").replace("\N{MINUS SIGN}", "-").strip()
    if text in ("", "-", "absent"):
        return True
    try:
        [float(part) for part in text.split("±")]
    except ValueError:
        return False
    return True
