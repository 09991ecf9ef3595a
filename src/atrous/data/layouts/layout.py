"""What a data set's folders look like, as the two questions that are asked of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from atrous.data.dataset import SegmentationDataset
from atrous.data.image import IMAGE_SUFFIXES
from atrous.errors import DataError


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set.

    Attributes:
        name: what people call it.
        splits: the names of a folder's splits; none if the folder is not laid out so.
        open: one of these splits. Whether each photo has its mask is not looked at.
    """

    name: str
    splits: Callable[[Path], tuple[str, ...]]
    open: Callable[[Path, str], SegmentationDataset]


def photos_in(folder: Path) -> list[Path]:
    """The photos of a folder, by name; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def read_names(path: Path, known: Callable[[str], bool] = lambda _: False) -> list[str]:
    """A list of a split's photos: of every line all of it if that is a known name, else its first word.

    Raises:
        DataError: it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a list of photos ({error})") from error
    entries = [line.strip() for line in lines if line.strip()]
    return [entry if known(entry) else entry.split()[0] for entry in entries]


def first_folder(candidates: Iterable[Path], *inside: str) -> Path | None:
    """The first of some folders that is there and holds all these paths."""
    return next((f for f in candidates if f.is_dir() and all((f / path).exists() for path in inside)), None)
