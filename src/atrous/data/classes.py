"""The classes of a data set, and `classes.json`, which says them."""

import json
from dataclasses import dataclass
from pathlib import Path

from atrous.classes import Colour, known_classes, label_colours
from atrous.errors import DataError

IGNORED = 255
"""The label of pixels that are neither trained nor judged, unless a data set says otherwise."""

FILE = "classes.json"


@dataclass(frozen=True)
class Classes:
    """What `classes.json` says: {"classes": […], "palette": [[r, g, b], …], "ignore_index": 255, "void_colours": […]}.

    Attributes:
        names: K names, in index order.
        palette: K colours: of pictures of the labels, and of colour-coded masks.
        ignore_index: the label of pixels that do not count; it lies behind the K classes.
        void_colours: the colours of colour-coded masks that mean `ignore_index`.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int = IGNORED
    void_colours: tuple[Colour, ...] = ()

    def to_json(self) -> str:
        values = {
            "classes": self.names,
            "palette": self.palette,
            "ignore_index": self.ignore_index,
            **({"void_colours": self.void_colours} if self.void_colours else {}),
        }
        return json.dumps(values, indent=1) + "\n"


def published(name: str) -> Classes:
    """The classes of a published data set, such as "voc"."""
    return Classes(*known_classes(name))


def named(names: tuple[str, ...], source: Path) -> Classes:
    """Classes that have no colours of their own; `source` is what names them.

    Raises:
        DataError: more than labels can tell apart.
    """
    if len(names) > IGNORED:
        raise DataError(
            f"{source}: has {len(names)} classes; labels are 8 bits and {IGNORED} counts for none: merge some"
        )
    return Classes(names, tuple((int(r), int(g), int(b)) for r, g, b in label_colours(len(names))))


def shared_colour(classes: Classes) -> tuple[str, str, Colour] | None:
    """The first two classes that have the same colour, and the colour."""
    owners: dict[Colour, str] = {}
    for name, colour in zip(classes.names, classes.palette, strict=True):
        if owners.setdefault(colour, name) != name:
            return owners[colour], name, colour
    return None


def read_classes(root: Path) -> Classes:
    """Reads `classes.json` of a data set; without a palette in it the classes get VOC's colours.

    Raises:
        DataError: it is missing, or does not say what it should.
    """
    path = root / FILE
    if not root.is_dir():
        raise DataError(f"{root}: no such directory")
    if not path.is_file():
        raise DataError(
            f'{path}: missing; it holds {{"classes": [names], "palette": [[r, g, b]], "ignore_index": 255}}'
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(values["classes"], list):
            raise TypeError("classes is no list")
        names = tuple(str(name) for name in values["classes"])
        palette = _colours(path, values["palette"]) if "palette" in values else named(names, path).palette
        void = _colours(path, values.get("void_colours", []))
        ignore = int(values.get("ignore_index", IGNORED))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of classes ({error!r})") from error
    if not names or len(names) != len(palette):
        raise DataError(f"{path}: {len(names)} classes and {len(palette)} palette colours; they must be as many")
    if len(set(names)) != len(names):
        raise DataError(f"{path}: names a class twice; give each of its classes its own name")
    if not len(names) <= ignore <= 255:
        raise DataError(f"{path}: ignore_index {ignore} must lie behind the {len(names)} classes, at most 255")
    if shared := set(palette) & set(void):
        raise DataError(f"{path}: {min(shared)} is both a class's colour and one of void_colours; it is one of the two")
    return Classes(names, palette, ignore, void)


def _colours(path: Path, values: object) -> tuple[Colour, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list of colours")
    for value in values:
        if not isinstance(value, list) or len(value) != 3 or not all(_is_byte(channel) for channel in value):
            raise DataError(f"{path}: {value!r} is no colour; a colour is three whole numbers from 0 to 255")
    return tuple((int(r), int(g), int(b)) for r, g, b in values)


def _is_byte(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 255 and value % 1 == 0
