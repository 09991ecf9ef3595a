"""Where output goes: to a place that can be written, each photo's files to names of their own, none on an input."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from glob import has_magic
from itertools import takewhile
from pathlib import Path
from typing import Literal, TypeAlias

import typer

from atrous.errors import AtrousError

Kind: TypeAlias = Literal["mask", "overlay"]

_COLLAPSED = re.compile(r"^([a-z][a-z0-9+.-]+):/(?!/)")  # two letters at least: C:/ is a drive
_PAGES = ("http://", "https://")  # a server's, which lists nothing
_ENDINGS: dict[Kind, str] = {"mask": ".png", "overlay": "_overlay.jpg"}


def name(path: Path) -> str:
    """A path as a person writes it: a bucket's address has its second slash again, which `Path` takes away."""
    return _COLLAPSED.sub(r"\1://", str(path))


def is_address(path: Path) -> bool:
    """Whether it is a bucket's."""
    return name(path) != str(path)


def writable(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """The callback of options that say what is written: refused before any work where it could not be.

    Raises:
        AtrousError: an address, or a place below a file or in a folder that cannot be written to.
    """
    if path is not None:
        option = max(param.opts, key=len)
        label = f"{option} {name(path)}" if option.startswith("-") else name(path)
        if is_address(path):
            raise AtrousError(f"{label}: is an address; give a path of this machine")
        _refuse_unwritable(label, path)
    return path


def writable_file(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """`writable`, of a file alone."""
    if path is not None and path.is_dir():
        raise AtrousError(f"{max(param.opts, key=len)} {path}: is a folder; give a file")
    return writable(param, path)


def _refuse_unwritable(label: str, path: Path) -> None:
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if there != path and not there.is_dir():
        raise AtrousError(f"{label}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise AtrousError(f"{label}: {there} cannot be written to")


@dataclass(frozen=True)
class Photo:
    """An input, and its place below the argument that it was found by: a name, or folders and a name."""

    path: Path
    place: Path


def find_photos(
    arguments: Sequence[str], list_bucket: Callable[[str], list[str]] | None = None
) -> tuple[list[Photo], list[str]]:
    """The photos that files, folders and globs stand for, each once; a line for each argument without any.

    Args:
        list_bucket: gives the photos at an address such as s3://bucket/folder.
    """
    from atrous.data import find_images

    photos: dict[str, Photo] = {}
    failures = []
    for argument in arguments:
        try:
            listed = "://" in argument and not argument.startswith(_PAGES)
            found = _in_bucket(argument, list_bucket) if listed else find_images([argument])
        except AtrousError as error:
            failures.append(str(error))
            continue
        for path in found:
            photos.setdefault(os.path.abspath(path), Photo(path, _place(path, argument)))
    return list(photos.values()), failures


def _in_bucket(address: str, list_bucket: Callable[[str], list[str]] | None) -> list[Path]:
    if list_bucket is None:
        raise AtrousError(f"{address}: add --cluster ray, which reads buckets too")
    return [Path(photo) for photo in list_bucket(address)]


def _place(path: Path, argument: str) -> Path:
    if "://" in argument:
        return Path(path.name)
    base = Path(argument)
    if base.exists() and not base.is_dir():
        base = base.parent
    elif not base.is_dir():
        base = Path(*takewhile(lambda part: not has_magic(part), base.parts))
    return path.relative_to(base) if path.is_relative_to(base) else Path(path.name)


def plan_outputs(photos: Sequence[Photo], out: Path, kinds: Sequence[Kind]) -> list[dict[Kind, Path]]:
    """The files to write for each photo, by kind.

    A photo NAME.jpg becomes OUT/NAME.png (its mask) and OUT/NAME_overlay.jpg. Below a folder or a glob's
    fixed part, sub-folders are kept. If two photos would still share a name, all keep their folders below
    their common one; and of two that differ in their suffix alone each keeps it: NAME.jpg.png.

    Raises:
        AtrousError: `out` is no directory, or a file to be written is one of the inputs.
    """
    if out.exists() and not out.is_dir():
        raise AtrousError(f"--out {out}: is a file; give a directory")
    if not is_address(out):
        _refuse_unwritable(f"--out {out}", out)
    places = [photo.place for photo in photos]
    if _repeated(place.with_suffix("") for place in places):
        absolute = [Path(os.path.abspath(photo.path)) for photo in photos]
        common = os.path.commonpath([path.parent for path in absolute])
        places = [path.relative_to(common) for path in absolute]
    twins = _repeated(place.with_suffix("") for place in places)
    stems = [out / (place if _key(place.with_suffix("")) in twins else place.with_suffix("")) for place in places]
    planned = [{kind: stem.with_name(stem.name + _ENDINGS[kind]) for kind in kinds} for stem in stems]
    _refuse_overwriting(photos, planned)
    return planned


def _refuse_overwriting(photos: Sequence[Photo], planned: Sequence[dict[Kind, Path]]) -> None:
    inputs = {_key(photo.path.resolve()) for photo in photos}
    written = [path for files in planned for path in files.values()]
    for path in written:
        if path.is_dir():
            raise AtrousError(f"{path}: is a folder, where a file would be written: give another --out")
        if _key(path.resolve()) in inputs:
            raise AtrousError(f"{path} is an input and would be written over: give another --out")
    repeated = _repeated(written)
    if repeated:
        raise AtrousError(f"{min(repeated)} would be written for two inputs: predict one of them in a run of its own")


def _repeated(paths: Iterable[Path]) -> set[str]:
    return {path for path, count in Counter(map(_key, paths)).items() if count > 1}


def _key(path: Path) -> str:
    # On many systems A.png and a.png are one file.
    return str(path).casefold()
