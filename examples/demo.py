"""Segment real photos with the bundled model, with no network: what `make demo` runs.

    python examples/demo.py [PHOTO ...]

Without arguments the photos are those that the wheels of scikit-learn and scikit-image carry. The masks (palette PNG:
a pixel's value is its class) and the overlays go to demo/.
"""

import sys
import time
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

import atrous

OUT = Path("demo")
BAR_WIDTH = 30

# Neither was taken from a car. In the first all but the lake has a class that the model knows; the second shows what
# it makes of things that have none.
PHOTOS_IN_WHEELS = {
    "sklearn": "datasets/images/china.jpg",
    "skimage": "data/motorcycle_left.png",
}
NOTES = {
    "motorcycle_left.png": "a garage, no street: motorcycles and shelves have no class, and get the nearest",
}


def photos_in_wheels() -> list[Path]:
    """The photos that lie in installed packages, found without importing these."""
    photos = []
    for package, name in PHOTOS_IN_WHEELS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise atrous.AtrousError(f"{package} is not installed: run `make demo`, or name photos of your own")
        photos.append(Path(spec.origin).parent / name)
    return photos


def shares(result: atrous.Segmentation) -> Table:
    """One line a class: its colour in the overlay, its name, its share of the pixels and a bar of it."""
    colour = dict(zip(result.classes, result.palette, strict=True))
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column()
    table.add_column(min_width=max(map(len, result.classes)))
    table.add_column(justify="right")
    table.add_column()
    for name, share in result.areas().items():
        red, green, blue = colour[name]
        style = f"rgb({red},{green},{blue})"
        percentage = f"{share:.1%}" if share >= 0.001 else "<0.1%"
        bar = Text("█" * round(share * BAR_WIDTH), style=style)
        table.add_row(Text("  ", style=f"on {style}"), name, percentage, bar)
    return table


def main(arguments: list[str]) -> int:
    console = Console(highlight=False, soft_wrap=True)
    try:
        photos = [Path(argument) for argument in arguments] or photos_in_wheels()
        started = time.perf_counter()
        predictor = atrous.load("street")
        ready = time.perf_counter() - started
        console.print(f"\n[bold]street[/]: {escape(predictor.card.description)}")
        console.print(f"[dim]ready in {ready:.2f} s, runs on {predictor.device}[/]")
        for photo in photos:
            started = time.perf_counter()
            result = predictor(photo)
            predicted = time.perf_counter() - started
            written = result.save(OUT / photo.stem, kind="both")
            height, width = result.labels.shape
            facts = f"{width}×{height}, read and segmented in {predicted:.2f} s"
            console.print(f"\n[bold]{escape(photo.name)}[/]  [dim]{facts}[/]")
            if not arguments and photo.name in NOTES:
                console.print(f"[dim]({NOTES[photo.name]})[/]")
            console.print(shares(result))
            for path in written:
                console.print(f"  [dim]->[/] {escape(str(path))}")
    except atrous.AtrousError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]demo:[/] {escape(str(error))}")
        return 1
    console.print(f"\nThe pictures are in [bold]{escape(str(OUT.resolve()))}[/]")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
