"""COCO's annotations: one JSON file for many photos, with outlines or run lengths for each object."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.data.classes import Classes, named
from atrous.data.labelme import BACKGROUND, fill_label, read_annotation
from atrous.data.shapes import decode_runs, fill_polygon, fill_runs, polygon_area
from atrous.errors import DataError

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class _Photo:
    """What the file says of one photo: its size, and (category, segmentation) of its objects, large ones first."""

    size: tuple[int, int]
    objects: list[tuple[int, Any]]


@dataclass(frozen=True)
class CocoAnnotations:
    """A file of annotations.

    Raises:
        DataError: it cannot be read, or holds something else.
    """

    path: Path

    @cached_property
    def categories(self) -> dict[int, str]:
        """Names by id, in the order of the ids."""
        try:
            return dict(sorted((int(c["id"]), str(c["name"])) for c in self._list("categories")))
        except KeyError as error:
            raise self._wrong(f"a category without {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise self._wrong("a category whose id is no number") from error

    @cached_property
    def photos(self) -> dict[str, _Photo]:
        """By the file name that they are given there."""
        objects: dict[int, list[dict[str, Any]]] = {}
        try:
            for entry in self._list("annotations"):
                if entry.get("segmentation"):
                    objects.setdefault(entry["image_id"], []).append(entry)
            return {
                str(image["file_name"]): _Photo(
                    (int(image["height"]), int(image["width"])),
                    [(int(o["category_id"]), o["segmentation"]) for o in _large_first(objects.get(image["id"], []))],
                )
                for image in self._list("images")
            }
        except KeyError as error:
            raise self._wrong(f"a photo or an object without {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise self._wrong(error) from error

    @cached_property
    def _values(self) -> dict[str, Any]:
        return read_annotation(self.path)

    def _list(self, key: str) -> list[dict[str, Any]]:
        values = self._values.get(key)
        if not isinstance(values, list):
            raise self._wrong(f"no list {key!r}")
        strange = [value for value in values if not isinstance(value, dict)]
        if strange:
            raise self._wrong(f"{key!r} holds {strange[0]!r}, which is no object")
        return values

    def _wrong(self, reason: object) -> DataError:
        return DataError(f"{self.path}: not COCO's annotations ({reason})")


@dataclass(frozen=True)
class CocoMasks:
    """Draws a photo's objects, the small ones over the large ones, crowds as the class that they are of.

    What no object covers is the background where that is a class, and else ignored.

    Attributes:
        names: under which the file speaks of each photo.
    """

    annotations: CocoAnnotations
    classes: Classes
    names: Mapping[Path, str]

    def __call__(self, image: Path, mask: Path) -> Array:
        name = self.names[image]
        photo = self.annotations.photos[name]
        labels = np.full(photo.size, fill_label(self.classes), np.uint8)
        for category, segmentation in photo.objects:
            try:
                label = self._label(category)
                for cover in _covers(segmentation, photo.size):
                    labels[cover] = label
            except KeyError as error:
                raise DataError(f"{mask}: what it says of {name} cannot be drawn (no {error.args[0]!r})") from error
            except (TypeError, ValueError) as error:
                raise DataError(f"{mask}: what it says of {name} cannot be drawn ({error})") from error
        return labels

    def _label(self, category: int) -> int:
        name = self.annotations.categories.get(category)
        if name is None:
            known = ", ".join(str(number) for number in self.annotations.categories)
            raise ValueError(f"an object is of category {category}; the categories are {known}")
        if name not in self.classes.names:
            raise DataError(
                f"{self.annotations.path}: its category {name!r} is no class: they are {', '.join(self.classes.names)}"
            )
        return self.classes.names.index(name)


def coco_classes(files: Iterable[CocoAnnotations]) -> Classes:
    """The background, and behind it the categories of the first file, in the order of their ids.

    Raises:
        DataError: the files do not have the same categories.
    """
    first, *rest = files
    for other in rest:
        if other.categories != first.categories:
            raise DataError(f"{other.path}: its categories are not those of {first.path}; they must be the same")
    names = tuple(dict.fromkeys(first.categories.values()))  # two of one name are one class
    return named(names if BACKGROUND in names else (BACKGROUND, *names), first.path)


def _large_first(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Crowds first: they lie behind what stands before them."""
    return sorted(objects, key=lambda o: (not o.get("iscrowd"), -float(o.get("area") or _area(o["segmentation"]))))


def _area(segmentation: Any) -> float:
    """In pixels; 0 of what is no segmentation, which is told where it is drawn."""
    try:
        if isinstance(segmentation, dict):
            return float(sum(_runs(segmentation)[1::2]))
        return sum(polygon_area(outline) for outline in _outlines(segmentation))
    except (KeyError, TypeError, ValueError):
        return 0.0


def _covers(segmentation: Any, size: tuple[int, int]) -> list[NDArray[np.bool_]]:
    if isinstance(segmentation, dict):
        return [fill_runs(_runs(segmentation), size)]
    outlines = _outlines(segmentation)
    if not all(np.isfinite(outline).all() for outline in outlines):
        raise ValueError("its points are no numbers")
    return [fill_polygon(outline, size) for outline in outlines]


def _runs(segmentation: Mapping[str, Any]) -> Sequence[int]:
    counts = segmentation["counts"]
    return decode_runs(counts) if isinstance(counts, str) else counts


def _outlines(segmentation: Any) -> list[NDArray[np.float64]]:
    return [np.array(outline, np.float64).reshape(-1, 2) for outline in segmentation]
