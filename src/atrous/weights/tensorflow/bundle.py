"""TensorFlow's checkpoints ("tensor bundles": `model.ckpt.index` and `model.ckpt.data-00000-of-00001`), read alone.

The index is a table (`sstable`) from names to protocol buffers (tensorflow/core/protobuf/tensor_bundle.proto): under
the empty name a header, under a variable's name its type, shape, place in a data file and checksum.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atrous.errors import WeightsError
from atrous.weights.tensorflow import sstable
from atrous.weights.tensorflow.crc32c import masked_crc32c
from atrous.weights.tensorflow.wire import MalformedError, read_message

_LARGEST_INDEX = 1 << 24  # bytes; a network of a thousand variables and their optimizer's has a fiftieth of it
_BFLOAT16 = 14
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", _BFLOAT16: "<u2", 19: "<f2"}  # tensorflow/core/framework/types.proto
_FILE = re.compile(r"(.+)\.(?:index|meta|data-\d{5}-of-\d{5})")


@dataclass(frozen=True)
class Entry:
    """Where a variable's value stands.

    Attributes:
        dtype: TensorFlow's number for its type.
        shard, offset, size: the data file's number, and the bytes within it.
        checksum: masked CRC-32C of those bytes.
        sliced: the value lies in parts, under names of their own.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class Checkpoint(Mapping[str, NDArray[Any]]):
    """A checkpoint's variables by name. A value is read, and its checksum checked, each time that it is asked for.

    Attributes:
        index: the `.index` file.
    """

    def __init__(self, index: Path, entries: Mapping[str, Entry], shards: int) -> None:
        self.index = index
        self._entries = entries
        self._shards = shards

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # without reading its value, as Mapping would

    def shape(self, name: str) -> tuple[int, ...]:
        return self._entries[name].shape

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A variable's value, in its own type; bfloat16, which numpy does not have, as float32.

        Raises:
            WeightsError: the value is damaged, of another type or in parts.
        """
        entry = self._entries[name]
        if entry.sliced:
            raise WeightsError(
                f"{self.index}: {name} lies in parts (a partitioned variable): save it again without a partitioner"
            )
        if entry.dtype not in _DTYPES:
            raise WeightsError(f"{self.index}: {name} is of TensorFlow's type {entry.dtype}, not a float or an integer")
        dtype = np.dtype(_DTYPES[entry.dtype])
        if math.prod(entry.shape) * dtype.itemsize != entry.size:
            raise WeightsError(f"{self.index}: {name} has {entry.size} bytes, which its shape {entry.shape} forbids")
        path = data_file(self.index, entry.shard, self._shards)
        try:
            values = np.fromfile(path, np.uint8, entry.size, offset=entry.offset)
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
        if len(values) != entry.size or masked_crc32c(values) != entry.checksum:
            raise WeightsError(f"{path}: the checksum of {name} is wrong; the file is damaged: get it again")
        if entry.dtype == _BFLOAT16:
            values = (values.view("<u2").astype("<u4") << 16).view("<f4")
            return values.reshape(entry.shape)
        return values.view(dtype).reshape(entry.shape)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a checkpoint; values are read later.

    Args:
        path: its `.index` file or a `.data-…` file beside it, their common beginning ("model.ckpt-30000"), or a
            directory that holds one checkpoint, or several and TensorFlow's `checkpoint` file that names the latest.

    Raises:
        WeightsError: nothing there, not such a checkpoint, or one that is damaged or cut short.
    """
    index = _locate(Path(path))
    if index.stat().st_size > _LARGEST_INDEX:
        raise WeightsError(f"{index}: {index.stat().st_size} bytes are more than the index of a checkpoint has")
    try:
        entries, shards = _parse(index.read_bytes())
    except MalformedError as error:
        raise WeightsError(f"{index}: not the index of a TensorFlow checkpoint: {error}") from error
    except OSError as error:
        raise WeightsError(f"{index}: cannot be read: {error.strerror}") from error
    ends: dict[int, int] = {}
    for entry in entries.values():
        if not entry.sliced:
            ends[entry.shard] = max(ends.get(entry.shard, 0), entry.offset + entry.size)
    for shard, end in ends.items():
        data = data_file(index, shard, shards)
        if not data.is_file():
            raise WeightsError(f"{data}: not there, and {index.name} alone holds no values: put the two side by side")
        if data.stat().st_size < end:
            raise WeightsError(f"{data}: cut short: it has {data.stat().st_size} bytes, not {end}: get it again")
    return Checkpoint(index, entries, shards)


def data_file(index: Path, shard: int, shards: int) -> Path:
    """The file that holds the values of one shard."""
    return index.with_name(f"{index.name.removesuffix('.index')}.data-{shard:05d}-of-{shards:05d}")


def _parse(data: bytes) -> tuple[dict[str, Entry], int]:
    """The entries by name, and the number of data files."""
    table = sstable.read_table(data)
    key, value = next(table, (None, b""))
    if key != b"":
        raise MalformedError("it has no header")
    header = dict(read_message(value))
    shards = header.get(1, 0)
    if not isinstance(shards, int) or not 0 <= shards <= 99999:
        raise MalformedError("its header has no number of data files")
    if header.get(2, 0) != 0:
        raise MalformedError("it was written on a big-endian machine, which cannot be read")
    entries = {}
    for key, value in table:
        if key.startswith(b"\0"):
            continue  # a part of a partitioned variable, under a name in another encoding
        name = key.decode("utf-8", "replace")
        if not name.isprintable():
            raise MalformedError("a name in it is not text")
        entry = _parse_entry(value)
        if not entry.sliced and entry.shard >= shards:
            raise MalformedError(f"{name} is said to stand in data file {entry.shard} of {shards}")
        entries[name] = entry
    return entries, shards


def _parse_entry(message: bytes) -> Entry:
    numbers, shape, sliced = dict.fromkeys((1, 3, 4, 5, 6), 0), b"", False
    for field, value in read_message(message):
        if field in numbers and isinstance(value, int):
            numbers[field] = value
        elif field == 2 and isinstance(value, bytes):
            shape = value
        elif field == 7:
            sliced = True
        else:
            raise MalformedError(f"an entry has the unknown field {field}")
    dtype, shard, offset, size, checksum = numbers.values()
    return Entry(dtype, _parse_shape(shape), shard, offset, size, checksum, sliced)


def _parse_shape(message: bytes) -> tuple[int, ...]:
    shape: list[int] = []
    for field, value in read_message(message):
        if field != 2 or not isinstance(value, bytes):
            raise MalformedError("a variable's rank is unknown")
        size = dict(read_message(value)).get(1, 0)
        if not isinstance(size, int) or len(shape) == 8:
            raise MalformedError("a variable's shape is not one")
        shape.append(size)
    return tuple(shape)


def _locate(path: Path) -> Path:
    """The `.index` file that a path stands for."""
    if path.is_dir():
        return _locate_within(path)
    named = _FILE.fullmatch(path.name)
    index = path.with_name(f"{named[1] if named else path.name}.index")
    if index.is_file():
        return index
    if not path.is_file():
        raise WeightsError(f"{path}: no such TensorFlow checkpoint: there is no {index.name}")
    if path.suffix == ".pb":
        reason = "a graph, frozen or not: give the checkpoint that came with it, model.ckpt….index and its .data file"
    elif named:
        reason = f"its index {index.name} is not beside it: a checkpoint is both"
    elif _ends_as_table(path):
        reason = "a checkpoint of TensorFlow's first format, without an index: save it again with Saver's V2 format"
    else:
        reason = "not a TensorFlow checkpoint, whose parts are named ….index and ….data-00000-of-00001"
    raise WeightsError(f"{path}: {reason}")


def _locate_within(directory: Path) -> Path:
    found = sorted(directory.glob("*.index"))
    latest = directory / "checkpoint"
    if len(found) > 1 and latest.is_file():
        with latest.open(encoding="utf-8", errors="replace") as file:
            named = re.match(r'model_checkpoint_path: *"([^"\n]+)"', file.read(4096))
        # It may hold the path on the machine that trained: the last part of it is what counts.
        names = {re.split(r"[/\\]", named[1])[-1] + ".index"} if named else set()
        found = [index for index in found if index.name in names] or found
    if len(found) != 1:
        some = ", ".join(index.name.removesuffix(".index") for index in found[:5])
        hold = f"holds {len(found)} checkpoints: give one of {some}" if found else "holds no TensorFlow checkpoint"
        raise WeightsError(f"{directory}: {hold}")
    return found[0]


def _ends_as_table(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(sstable.MAGIC), 0))
        return file.read() == sstable.MAGIC
