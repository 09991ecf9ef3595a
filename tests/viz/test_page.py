"""A page: one file, with what was put into it."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from atrous.viz import Page, plots


class _Outline(HTMLParser):
    """Which elements are open where, and every address that the page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[tuple[str, str | None, str]] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if "src" in values:
            self.sources.append(values["src"] or "")
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append((tag, values.get("class"), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            tag, kind, _ = self.cells[-1]
            self.cells[-1] = (tag, kind, data)


def test_tables_escape_text_and_set_numbers_flush_right(tmp_path: Path) -> None:
    rows = [["<Road> & co", "97.1 %", "72.0 ± .4"], ["Pole", None, "1,024"], ["Car", "absent", "\N{MINUS SIGN}3"]]
    page = Page("A < B").table(["class", "IoU", "n"], rows)
    outline = _Outline()
    outline.feed(page.save(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert outline.open == []
    assert outline.cells[:3] == [("th", None, "class"), ("th", "number", "IoU"), ("th", "number", "n")]
    assert outline.cells[3:6] == [
        ("td", None, "<Road> & co"),
        ("td", "number", "97.1 %"),
        ("td", "number", "72.0 ± .4"),
    ]


def test_pictures_lie_within_the_file_and_masks_keep_their_colours() -> None:
    mask = np.zeros((80, 100, 3), np.uint8)
    mask[20:40, 30:50] = 200, 30, 60
    photo = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    figure = plots.figure(3, 2)
    figure.subplots().plot([0, 1], [1, 0])
    text = (
        Page("p").pictures([(mask, "a mask"), (Image.fromarray(photo), "a photo")]).picture(figure, 'a "plot"').html()
    )
    outline = _Outline()
    outline.feed(text)
    kinds, data = zip(
        *(re.fullmatch(r"data:image/([a-z+]+);base64,(.*)", s).groups() for s in outline.sources), strict=True
    )  # type: ignore[union-attr]
    assert kinds == ("png", "jpeg", "svg+xml")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data[0])))), mask)
    assert b"<svg" in base64.b64decode(data[2])
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
