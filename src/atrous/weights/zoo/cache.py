"""Where fetched models are kept, and how several processes share that place."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock

from atrous.errors import WeightsError


def cache_directory() -> Path:
    """The directory of fetched models: `models` in $ATROUS_HOME, or in the platform's cache directory for Atrous."""
    home = os.environ.get("ATROUS_HOME")
    root = Path(home).expanduser() if home else Path(platformdirs.user_cache_dir("atrous", appauthor=False))
    return root / "models"


def offline() -> bool:
    """Whether $ATROUS_OFFLINE forbids requests: it does unless it is unset, empty, 0 or false."""
    return os.environ.get("ATROUS_OFFLINE", "").strip().lower() not in {"", "0", "false"}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """For the one process that writes `path` at a time; the others wait here until it is done.

    The operating system gives the lock back when its holder dies, so a killed process blocks nobody; its lock
    file, which stays behind, means nothing.

    Raises:
        WeightsError: for any OSError of the body or the lock: a disk that is full, a directory that is read-only.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WeightsError(
                f"{path}: the disk is full: free some space and run again, or set ATROUS_HOME to a directory elsewhere"
            ) from error
        raise WeightsError(
            f"{path}: cannot be written ({error.strerror or error}): set ATROUS_HOME to a directory that can be"
        ) from error
