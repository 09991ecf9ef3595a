"""`atrous data`: what a data set is, what is wrong with it, and how to get one."""

import json as json_format
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from atrous.cli.outputs import writable
from atrous.errors import AtrousError

if TYPE_CHECKING:
    from atrous.data.checking import Finding, Report

_SHOWN = 3  # files of a finding; all of them are in the JSON

data = typer.Typer(
    no_args_is_help=True,
    help="Check a labelled data set, draw its splits, or fetch a published one.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@data.command()
def check(
    folder: Path = typer.Argument(
        ..., help="A data set: VOC, Cityscapes, ADE20K, COCO-Stuff, CamVid, or any folder with images/ and masks/."
    ),
    sheet: Path | None = typer.Option(
        None, callback=writable, help="Write a page (.html) or a picture (.png) with photos and masks."
    ),
    fix: Path | None = typer.Option(
        None, callback=writable, metavar="OUT", help="Write a mended copy, where the mend is mechanical."
    ),
    json: bool = typer.Option(False, "--json", help="One JSON object instead of tables."),
) -> None:
    """Look at every photo and mask: what is there, what is wrong, and its mend.

    The exit code is 1 if something is wrong, 0 if not, also if something is doubtful.
    """
    from atrous.cli.data_sheet import check_sheet, write_sheet
    from atrous.cli.progress import report as show
    from atrous.data import list_splits
    from atrous.data.checking import check_dataset, mend_dataset

    if sheet is not None:
        check_sheet(sheet)
    if fix is not None and fix.exists():
        raise AtrousError(f"--fix {fix}: is there already; give a folder that is to be made")
    list_splits(folder)
    with show(1, counted=False) as lines:
        lines.begin("checking")
        found = check_dataset(folder, lambda _, total: lines.advance(1 / total))
    if json:
        typer.echo(json_format.dumps(found.to_dict()))
    else:
        _print(found, fix is None)
    if sheet is not None:
        write_sheet(found, sheet)
        typer.echo(f"wrote {sheet}", err=json)
    if fix is not None:
        with show(1, counted=False) as lines:
            lines.begin("mending")
            left_out = mend_dataset(found, fix, lambda _, total: lines.advance(1 / total))
        for line in left_out:
            typer.echo(line, err=True)
        kept = sum(split.photos for split in found.splits.values()) - len(left_out)
        typer.echo(f"wrote {fix}: {kept} photos with masks, {len(left_out)} left out", err=json)
    if not found.sound:
        raise typer.Exit(1)


@data.command()
def split(
    folder: Path = typer.Argument(..., help="A folder with images/ and masks/ that has no splits."),
    val: float = typer.Option(0.2, min=0, max=1, help="The share of the photos that is kept to judge by."),
    seed: int = typer.Option(0, help="Another number draws other photos."),
) -> None:
    """Draw train.txt and val.txt. Frames of one video are no independent photos: split those by hand."""
    from atrous.data.splitting import write_split_lists

    counts = write_split_lists(folder, val, seed)
    typer.echo(f"wrote {folder / 'train.txt'} ({counts['train']} photos) and {folder / 'val.txt'} ({counts['val']})")


@data.command()
def fetch(
    name: str = typer.Argument(..., help="camvid."),
    out: Path | None = typer.Option(
        None, "--out", "-o", callback=writable, help="A folder that is to be made; its name if not given."
    ),
) -> None:
    """Download a published data set; what was interrupted goes on where it stopped."""
    from atrous.cli.progress import report as show
    from atrous.data.fetching import find_published, unpack
    from atrous.weights.zoo.download import download

    published = find_published(name)
    out = out or Path(published.name)
    if out.exists():
        raise AtrousError(f"{out}: is there already; give another --out")
    transfer = out.with_name(f"{out.name}.download")
    archive = transfer / f"{published.name}.zip"
    with show(1, counted=False) as lines:
        lines.begin(f"fetching {name}")
        download(published.url, archive, progress=lines.fetched)
        lines.begin("unpacking")
        unpack(published, archive, out)
    shutil.rmtree(transfer)
    typer.echo(f"wrote {out}. {published.terms}")


def _print(report: "Report", offer: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    console.print(f"{report.root}: {report.layout}, {len(report.classes.names)} classes", soft_wrap=True)
    splits = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, justify in (("split", "left"), ("photos", "right"), ("sizes", "left"), ("ignored", "right")):
        splits.add_column(column, justify=justify)  # type: ignore[arg-type]
    for name, summary in report.splits.items():
        splits.add_row(name, f"{summary.photos:,}", summary.describe_sizes(), f"{summary.ignored_share:.1%}")
    console.print(splits)
    console.print(_class_table(report))
    for finding in report.findings:
        console.print(_told(finding), soft_wrap=True)
    wrong = sum(finding.severity == "wrong" for finding in report.findings)
    mechanical = offer and any(finding.mechanical for finding in report.findings)
    if wrong:
        mend = "; --fix OUT writes a mended copy of what can be mended mechanically" if mechanical else ""
        console.print(f"wrong: {wrong} of {len(report.findings)} findings{mend}", soft_wrap=True)
    else:
        console.print("nothing is wrong")


def _class_table(report: "Report") -> "object":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("class")
    for name in report.splits:
        table.add_column(name, justify="right")
        table.add_column("in photos", justify="right")
    for index, name in enumerate(report.classes.names):
        cells = []
        for summary in report.splits.values():
            pixels = int(summary.pixels.sum())
            cells.append(f"{summary.pixels[index] / pixels:.2%}" if pixels else "")
            cells.append(f"{summary.present[index]:,}")
        colour = "#{:02x}{:02x}{:02x}".format(*report.classes.palette[index])
        table.add_row(Text("██", style=colour), Text(name), *cells)
    return table


def _told(finding: "Finding") -> str:
    files = ""
    if finding.files:
        shown = ", ".join(str(path) for path in finding.files[:_SHOWN])
        more = f" and {len(finding.files) - _SHOWN:,} more" if len(finding.files) > _SHOWN else ""
        files = f"\n  {len(finding.files):,} files: {shown}{more}"
    return f"{finding.severity}: {finding.what}{files}\n  mend: {finding.mend}"
