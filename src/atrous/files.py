"""Files that appear whole or not at all."""

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from atrous.errors import AtrousError

_UNFINISHED = re.compile(r"\.[0-9a-f]{32}(\..*)?")


@contextlib.contextmanager
def replacing(target: str | Path) -> Iterator[Path]:
    """A path beside `target` to write to, whose file takes the target's name when the block ends without an error.

    The folder is made where it is missing. Of a block that fails, or a program that is killed in it, nothing stands
    under the target's name but what stood there before. The name keeps the target's suffix, by which writers choose
    their format.

    Raises:
        AtrousError: the folder or the file cannot be written; it names the target.
    """
    target = Path(target)
    unfinished = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield unfinished
            unfinished.replace(target)
        finally:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                unfinished.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        above = next(place for place in target.parents if place.exists())
        reason = f"{above} is a file, not a folder" if not above.is_dir() else error.strerror
        raise AtrousError(f"{target}: cannot be written: {reason}") from error
    except OSError as error:
        raise AtrousError(f"{target}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A new hidden folder beside `target`, gone with whatever is still in it when the block ends."""
    folder = target.with_name(f".{uuid.uuid4().hex}-unfinished")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_unfinished(folder: Path) -> None:
    """Removes what killed programs left of files that they had begun; none may be writing into the folder now."""
    for path in folder.iterdir():
        if _UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)
