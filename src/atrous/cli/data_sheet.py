"""The picture sheet of `atrous data check`: photos under their masks, and what was found."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

if TYPE_CHECKING:
    from atrous.data import SegmentationDataset
    from atrous.data.checking import Report

Array = NDArray[np.uint8]

_COLUMNS, _ROWS = 6, 4
_TILE = (180, 240)  # height, width
_GAP = 4
_PAPER = 255


def check_sheet(path: Path) -> None:
    """Refuses a place for the sheet before the work is done that it would show."""
    if path.suffix.lower() not in (".html", ".png"):
        raise AtrousError(f"--sheet {path}: a sheet is a page, .html, or a picture, .png")


def write_sheet(report: "Report", path: Path) -> None:
    """A page with tables, the classes' shares and photos of every split; or the photos alone as a picture."""
    from PIL import Image

    from atrous.data.opening import recognise
    from atrous.files import replacing
    from atrous.viz import Page

    layout = recognise(report.root)
    sheets = {name: _contact_sheet(layout.open(report.root, name), report, name) for name in report.splits}
    if path.suffix.lower() == ".png":
        width = max(sheet.shape[1] for sheet in sheets.values())
        padded = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=_PAPER) for s in sheets.values()]
        with replacing(path) as unfinished:
            Image.fromarray(np.concatenate(padded)).save(unfinished)
        return
    page = Page(f"{report.root.name}: {report.layout}")
    verdict = "Nothing is wrong." if report.sound else "Something is wrong; see the findings."
    page.text(f"{len(report.classes.names)} classes. {verdict}")
    page.table(
        ["split", "photos", "sizes", "ignored"],
        [
            [name, split.photos, split.describe_sizes(), f"{split.ignored_share:.1%}"]
            for name, split in report.splits.items()
        ],
    )
    if report.findings:
        page.heading("Findings")
        page.table(
            ["", "what", "mend", "files", "such as"],
            [
                [f.severity, f.what, f.mend, len(f.files) or "", f.files[0].name if f.files else ""]
                for f in report.findings
            ],
        )
    page.heading("Classes")
    page.picture(_shares(report), "each class's share of the pixels that count")
    for name, sheet in sheets.items():
        page.heading(f"Photos of {name}")
        page.picture(sheet, "drawn evenly from the split, under their masks; black where a pixel does not count")
    page.save(path)


def _contact_sheet(dataset: "SegmentationDataset", report: "Report", split: str) -> Array:
    """Photos from all over a split with their masks, those with problems first."""
    looks = report.looks[split]
    ill = [index for index, look in enumerate(looks) if look.problems]
    count = min(len(looks), _COLUMNS * _ROWS)
    evenly = [int(place) for place in np.linspace(0, len(looks) - 1, count)]
    chosen = list(dict.fromkeys([*ill[: count // 2], *evenly]))[:count]
    if not chosen:
        return np.full((_TILE[0] + _GAP, _TILE[1] + _GAP, 3), _PAPER, np.uint8)
    tiles = [_tile(dataset, index) for index in chosen]
    tiles += [np.full_like(tiles[0], _PAPER)] * (-len(tiles) % min(_COLUMNS, len(tiles)))
    columns = min(_COLUMNS, len(tiles))
    rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _tile(dataset: "SegmentationDataset", index: int) -> Array:
    """The photo with its mask over it, fitted into a tile; grey with a cross where they cannot be shown."""
    import cv2

    from atrous.viz import overlay

    height, width = _TILE
    tile = np.full((height + _GAP, width + _GAP, 3), _PAPER, np.uint8)
    inner = tile[:height, :width]
    try:
        photo, labels = dataset[index]
    except AtrousError:
        inner[:] = 224
        cv2.line(inner, (0, 0), (width - 1, height - 1), (200, 0, 0), 2)
        cv2.line(inner, (0, height - 1), (width - 1, 0), (200, 0, 0), 2)
        return tile
    ratio = min(height / photo.shape[0], width / photo.shape[1])
    size = max(1, round(photo.shape[1] * ratio)), max(1, round(photo.shape[0] * ratio))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    marks = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    shown = overlay(np.asarray(small), np.asarray(marks), dataset.classes.palette, 0.6)
    shown[marks == dataset.classes.ignore_index] = 0
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    inner[top : top + size[1], left : left + size[0]] = shown
    return tile


def _shares(report: "Report") -> Any:
    from atrous.viz import plots

    names = report.classes.names
    figure = plots.figure(8, max(2.5, 0.22 * len(names) * max(1, len(report.splits) / 2)))
    axes = figure.subplots()
    high = 0.8 / len(report.splits)
    for number, (split, summary) in enumerate(report.splits.items()):
        shares = 100 * summary.pixels / max(1, summary.pixels.sum())
        axes.barh(np.arange(len(names)) + (number + 0.5) * high - 0.4, shares, high, label=split)
    axes.set_yticks(np.arange(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    axes.set_xlabel("% of the pixels that count")
    axes.grid(axis="y", visible=False)
    axes.legend()
    return figure
