"""The wanted files of a .tar, .tar.gz or .zip archive, taken out of it without trusting it."""

import errno
import gzip
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from atrous.errors import WeightsError
from atrous.weights.zoo.cache import writing

_LIMIT = 4 << 30  # bytes unpacked; the largest published checkpoint's archive unpacks to less than one gigabyte
_MEMBERS = 10_000
_CHUNK = 1 << 18
_HEADER = 1 << 20  # of a tar archive's long names and the like, which tarfile reads as a whole
# What the standard library's readers raise for bytes that make no archive.
_FORMAT = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, struct.error)
_DAMAGE = (*_FORMAT, EOFError, ValueError, ArithmeticError, LookupError, RuntimeError)

_Stream = IO[bytes] | gzip.GzipFile


class _RefusedError(Exception):
    """Why an archive is not unpacked."""


def extract(archive: str | Path, patterns: Sequence[str], directory: str | Path, limit: int = _LIMIT) -> Path:
    """Puts the members whose file name fits one of the patterns side by side into a new directory; returns that.

    The directory appears with all of them or not at all. One that is there already is left as it is. Members that
    no pattern asks for are passed over, whatever they are.

    Args:
        patterns: as a shell's, such as "*.index"; for each there must be a member.
        limit: how many bytes may be unpacked.

    Raises:
        WeightsError: not an archive of these kinds, a damaged or a hostile one: a wanted member that lies outside,
            is a link or device, comes twice, or is beyond the limit.
    """
    archive, directory = Path(archive), Path(directory)
    with writing(directory):
        if directory.is_dir():
            return directory
        temporary = directory.with_name(f".{directory.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have left it
        temporary.mkdir()
        try:
            _extract(archive, patterns, temporary, limit)
            temporary.rename(directory)
        except _RefusedError as error:
            raise WeightsError(f"{archive}: {error}") from error
        except _DAMAGE as error:
            raise _damaged(archive, error) from error
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise _damaged(archive, error) from error  # it led to a place before its own beginning
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _damaged(archive: Path, error: Exception) -> WeightsError:
    reason = "".join(c if c.isprintable() else " " for c in str(error))[:80]
    return WeightsError(
        f"{archive}: damaged, or no .tar, .tar.gz or .zip archive ({reason}): delete it and fetch it again"
    )


def _extract(archive: Path, patterns: Sequence[str], directory: Path, limit: int) -> None:
    names: list[str] = []
    try:
        file = archive.open("rb")
    except OSError as error:
        raise _RefusedError(f"cannot be read ({error.strerror})") from error
    with file:
        for name, source, size in _members(file, patterns, limit):
            base = _base(name)
            if base in names:
                raise _RefusedError(f"it holds two files of the name {base!r}, of which one is wanted")
            if size > limit:
                raise _RefusedError(f"{name!r} unpacks to {size} bytes: more than {limit} are not taken")
            names.append(base)
            limit -= size
            with source, (directory / base).open("xb") as target:
                shutil.copyfileobj(source, target, _CHUNK)  # no more than `size`, or the reader raises
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise _RefusedError(f"it holds no file {pattern!r}")


def _base(name: str) -> str:
    """The file name in a member's path.

    Raises:
        _RefusedError: a path that leads out of the archive, on this platform or on another.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not name.isprintable():
        raise _RefusedError(f"its member {name!r} lies outside of it: not an archive to trust")
    return path.name


def _wanted(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.replace("\\", "/").rsplit("/", 1)[-1], pattern) for pattern in patterns)


def _members(file: IO[bytes], patterns: Sequence[str], limit: int) -> Iterator[tuple[str, IO[bytes], int]]:
    """The wanted members: their paths, their bytes and how many of these there should be."""
    magic = file.read(4)
    file.seek(0)
    if magic == b"PK\x03\x04":
        return _zip_members(file, patterns)
    return _tar_members(gzip.GzipFile(fileobj=file) if magic[:2] == b"\x1f\x8b" else file, patterns, limit)


def _zip_members(file: IO[bytes], patterns: Sequence[str]) -> Iterator[tuple[str, IO[bytes], int]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir() or not _wanted(member.filename, patterns):
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                raise _RefusedError(f"its member {member.filename!r} is a link or device, not a file")
            yield member.filename, archive.open(member), member.file_size


def _tar_members(stream: _Stream, patterns: Sequence[str], limit: int) -> Iterator[tuple[str, IO[bytes], int]]:
    bounded = _Bounded(stream, limit)
    with tarfile.TarFile(fileobj=bounded) as archive:  # type: ignore[arg-type]
        for count, member in enumerate(archive):
            if count == _MEMBERS:
                raise _RefusedError(f"it holds more than {_MEMBERS} members")
            if member.isdir() or not _wanted(member.name, patterns):
                continue
            if not member.isreg():
                raise _RefusedError(f"its member {member.name!r} is a link or device, not a file")
            content = archive.extractfile(member)
            assert content is not None  # as it is for every regular file
            yield member.name, content, member.size
        while bounded.read(_CHUNK):  # to the end, where gzip keeps its checksum
            pass


class _Bounded:
    """A stream that neither unpacks nor allocates more than it may."""

    def __init__(self, stream: _Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def read(self, count: int) -> bytes:
        if count > _HEADER:
            raise _RefusedError(f"a header of {count} bytes: not an archive to trust")
        data = self._stream.read(count)
        self._check(self._stream.tell())
        return data

    def seek(self, place: int) -> int:
        if place < self._stream.tell():  # never in an archive that tar wrote; gzip would unpack all of it again
            raise _RefusedError("its members overlap: not an archive to trust")
        self._check(place)
        return self._stream.seek(place)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, place: int) -> None:
        if place > self._limit:
            raise _RefusedError(f"it unpacks to more than {self._limit} bytes, which are not taken")
