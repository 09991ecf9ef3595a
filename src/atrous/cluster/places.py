"""Where photos lie and masks go: folders that every worker sees, or buckets by their address (s3://…, gs://…, …).

The file systems are pyarrow's, which are Ray Data's too, and behind those fsspec's. Credentials and endpoints come from
the environment, as each of them documents.
"""

import contextlib
import hashlib
import os
import uuid
from functools import cache
from pathlib import Path

from pyarrow import ArrowInvalid
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, FSSpecHandler, LocalFileSystem, PyFileSystem

from atrous.cluster.stamps import WITHIN
from atrous.data import IMAGE_SUFFIXES
from atrous.errors import AtrousError
from atrous.inference import is_photo

_HEADS_AND_TAILS = ((b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"), (b"\xff\xd8\xff", b"\xff\xd9"))


def list_photos(folder: str) -> list[str]:
    """The addresses of the photos in a bucket's folder, or of the one photo of that name.

    Raises:
        AtrousError: nothing there, or no way to it.
    """
    try:
        files, root = _locate(folder)
        if files.get_file_info(root).type == FileType.File:
            return [folder]
        found = files.get_file_info(FileSelector(root))
    except OSError as error:
        raise AtrousError(f"{folder}: cannot be listed: {' '.join(str(error).split())}") from error
    photos = sorted(f"{folder.rstrip('/')}/{info.base_name}" for info in found if _is_photo(info))
    if not photos:
        raise AtrousError(f"{folder}: holds no images")
    return photos


def read(place: str) -> bytes:
    """The whole of a file; OSError where it cannot be had."""
    files, path = _locate(place)
    with files.open_input_stream(path) as stream:
        return bytes(stream.read())


def write(place: str, content: bytes, mark: str) -> None:
    """Puts a file there, whole or not at all; OSError where it cannot be.

    Args:
        mark: of the names of unfinished files, by which `sweep` finds those that a killed worker left.
    """
    files, path = _locate(place)
    if not isinstance(files, LocalFileSystem):
        with files.open_output_stream(path) as stream:  # a store shows an object once it is whole
            stream.write(content)
        return
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    unfinished = os.path.join(folder, f".{mark}-{uuid.uuid4().hex}")
    try:
        Path(unfinished).write_bytes(content)
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)


def holds_photo(place: str) -> bool:
    """Whether an image without a palette is there, which no mask is; OSError where that cannot be seen."""
    files, path = _locate(place)
    if files.get_file_info(path).type != FileType.File:
        return False
    with files.open_input_file(path) as file:
        return is_photo(file)


def written_at(place: str) -> int | None:
    """When a file was written, in nanoseconds by the clock of what keeps it; None where that does not tell."""
    files, path = _locate(place)
    written: int | None = files.get_file_info(path).mtime_ns
    return written


def stamp_of(photo: str) -> bytes:
    """Another one for another photo, or for the same when its file has changed."""
    files, path = _locate(photo)
    info = files.get_file_info(path)
    return hashlib.sha256(f"{photo} {info.size} {info.mtime_ns}".encode()).hexdigest()[:32].encode()


def is_done(place: str, since: int | None, stamp: bytes) -> bool:
    """Whether a PNG or JPEG with this stamp is there from its first byte to its last, and not older than `since`."""
    files, path = _locate(place)
    info = files.get_file_info(path)
    if info.type != FileType.File or info.size < 32:
        return False
    if since is not None and info.mtime_ns is not None and info.mtime_ns < since:
        return False
    with files.open_input_file(path) as file:
        head, tail = file.read_at(min(WITHIN, info.size), 0), file.read_at(8, info.size - 8)
    whole = any(head.startswith(first) and tail.endswith(last) for first, last in _HEADS_AND_TAILS)
    return whole and stamp in head


def sweep(folder: str, mark: str) -> None:
    """Removes from a folder of this machine what a killed worker had not finished."""
    files, path = _locate(folder)
    if isinstance(files, LocalFileSystem) and os.path.isdir(path):
        for entry in os.scandir(path):
            if entry.name.startswith(f".{mark}-"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)


def _locate(place: str) -> tuple[FileSystem, str]:
    scheme, separator, rest = place.partition("://")
    if not separator:
        return LocalFileSystem(), place
    host, _, path = rest.partition("/")
    files, root = _connect(scheme, host)
    # Joined here: in a whole address a name with a space or a per cent sign would be read as something else.
    return files, f"{root.rstrip('/')}/{path.rstrip('/')}"


@cache
def _connect(scheme: str, host: str) -> tuple[FileSystem, str]:
    """A file system, and the path of its root."""
    if scheme == "file" or not host:
        raise AtrousError(f"{scheme}://{host}: give a folder of this machine as a path, another address with its host")
    bucket = f"{scheme}://{host}/"
    try:
        files, root = FileSystem.from_uri(bucket)
    except ArrowInvalid:
        import fsspec

        try:
            inner, root = fsspec.core.url_to_fs(bucket)
        except (ValueError, ImportError) as error:
            raise AtrousError(f"{bucket}: no way to read it here: {' '.join(str(error).split())}") from error
        files = PyFileSystem(FSSpecHandler(inner))
    return files, root


def _is_photo(info: FileInfo) -> bool:
    hidden = info.base_name.startswith(".")
    return info.type == FileType.File and not hidden and f".{info.extension.lower()}" in IMAGE_SUFFIXES
