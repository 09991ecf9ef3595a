"""Reading TFLite files: the graph and its constants, without TensorFlow.

A TFLite file is a FlatBuffer: tables, vectors and strings that refer to each other by byte offsets (FlatBuffers'
"internals" page; TensorFlow's schema.fbs numbers the fields). Python's flatbuffers runtime checks no offset, and this
file may come from anyone, so the few tables that matter are read here, each offset and length being checked first.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atrous.errors import WeightsError

_MAGIC = b"TFL3"
# Tables may share parts, so that a small file can stand for an endless graph: real ones stay far below these.
_MOST_BYTES = 1 << 31  # FlatBuffers' own
_MOST_TABLES = 10_000
_MOST_DIMENSIONS = 8
_MOST_ARGUMENTS = 256
_MOST_BYTES_OF_TEXT = 256

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 6: np.bool_, 7: np.int16, 9: np.int8}
_CUSTOM = 32
_OPERATORS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    22: "RESHAPE",
    23: "RESIZE_BILINEAR",
    25: "SOFTMAX",
    56: "ARG_MAX",
    114: "QUANTIZE",
}
# By the number of the options' table: the fields in the schema's order, as a name, how it is stored, its default.
_BYTE, _INT, _BOOL = "<b", "<i", "<?"
_PADDING, _ACTIVATION = ("padding", _BYTE, 0), ("activation", _BYTE, 0)
_STRIDES, _RATES = (("stride_w", _INT, 0), ("stride_h", _INT, 0)), (("rate_w", _INT, 1), ("rate_h", _INT, 1))
_OPTIONS: dict[int, tuple[tuple[str, str, int], ...]] = {
    1: (_PADDING, *_STRIDES, _ACTIVATION, *_RATES),
    2: (_PADDING, *_STRIDES, ("multiplier", _INT, 0), _ACTIVATION, *_RATES),
    5: (_PADDING, *_STRIDES, ("filter_w", _INT, 0), ("filter_h", _INT, 0), _ACTIVATION),
    10: (("axis", _INT, 0), _ACTIVATION),
    11: (_ACTIVATION,),
    15: (("old_height", _INT, 0), ("old_width", _INT, 0), ("align_corners", _BOOL, 0), ("half_pixel", _BOOL, 0)),
}

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the graph.

    Attributes:
        name: for people; it may be empty.
        dtype: None for a type that is not read here (strings, 4-bit integers).
        scale, zero_point: a real number is scale·(stored - zero_point); one of each, or one for each slice along
            `axis`, or none where the tensor is not quantised.
        data: a constant's stored values in `shape`; None for a value that is computed.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    data: NDArray[Any] | None


@dataclass(frozen=True)
class Operator:
    """A step of the graph.

    Attributes:
        name: the schema's, e.g. "CONV_2D"; "operator 42" for one that has no name here, a custom operator's own.
        inputs, outputs: indices into the graph's tensors; -1 stands for an input that is left out.
        options: of the operators that Atrous knows, e.g. {"padding": 0, "stride_w": 2, …}; padding 0 is "same" and
            1 "valid"; activation 0 is none, 1 ReLU and 3 ReLU6.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int]


@dataclass(frozen=True)
class Graph:
    """A TFLite file's one graph, its operators in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: str | Path) -> Graph:
    """Reads a `.tflite` file. Constants are views of the file's bytes, not copies.

    Raises:
        WeightsError: not a TFLite file, a damaged one, or one with several graphs.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[4:] != _MAGIC:
                raise WeightsError(f"{path}: not a TFLite file: it does not hold TFL3 at byte 4")
            if path.stat().st_size > _MOST_BYTES:
                raise WeightsError(f"{path}: too large for a TFLite file, which may have 2 GiB")
            content = head + file.read()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return _graph(_Table.root(content))
    except _DamageError as damage:
        raise WeightsError(f"{path}: a damaged TFLite file ({damage}); fetch it again") from damage


class _DamageError(Exception):
    """What is wrong with the bytes."""


class _Table:
    """A FlatBuffers table: fields by their number, any of which may be absent."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self._position = position
        self._layout = position - self._number("<i", position)
        self._layout_end = self._layout + self._number("<H", self._layout)

    @classmethod
    def root(cls, content: bytes) -> "_Table":
        return cls(content, struct.unpack_from("<I", content)[0])

    def number(self, field: int, form: str, default: int = 0) -> int:
        position = self._where(field)
        return default if position is None else self._number(form, position)

    def table(self, field: int) -> "_Table | None":
        position = self._where(field)
        return None if position is None else _Table(self._content, self._follow(position))

    def tables(self, field: int) -> Iterator["_Table"]:
        start, count = self._vector(field, 4)
        if count > _MOST_TABLES:
            raise _DamageError(f"{count} tables in a row")
        return (_Table(self._content, self._follow(start + 4 * index)) for index in range(count))

    def array(self, field: int, dtype: Any) -> NDArray[Any]:
        """A vector of numbers, as a view; empty where it is absent."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(field, kind.itemsize)
        return np.frombuffer(self._content, kind, count, start)

    def integers(self, field: int, most: int) -> tuple[int, ...]:
        values = self.array(field, np.int32)
        if values.size > most:
            raise _DamageError(f"{values.size} entries where {most} are enough")
        return tuple(values.tolist())

    def text(self, field: int) -> str:
        start, count = self._vector(field, 1)
        text = self._content[start : start + min(count, _MOST_BYTES_OF_TEXT)].decode("utf-8", "replace")
        return "".join(character if character.isprintable() else "?" for character in text)

    def _where(self, field: int) -> int | None:
        place = self._layout + 4 + 2 * field
        offset = self._number("<H", place) if place + 2 <= self._layout_end else 0
        return self._position + offset if offset else None

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        """Where a vector's entries of `width` bytes begin, and how many there are."""
        position = self._where(field)
        if position is None:
            return 0, 0
        start = self._follow(position)
        count = self._number("<I", start)
        self._check(start + 4, count * width)
        return start + 4, count

    def _follow(self, position: int) -> int:
        return position + self._number("<I", position)

    def _number(self, form: str, position: int) -> int:
        self._check(position, struct.calcsize(form))
        return int(struct.unpack_from(form, self._content, position)[0])

    def _check(self, start: int, size: int) -> None:
        if not 0 <= start <= len(self._content) - size:
            raise _DamageError(f"an offset leads outside its {len(self._content)} bytes")


def _graph(model: _Table) -> Graph:
    names = tuple(_operator_name(table) for table in model.tables(1))
    buffers = tuple(table.array(0, np.uint8) for table in model.tables(4))
    graphs = tuple(model.tables(2))
    if len(graphs) != 1:
        raise _DamageError(f"it holds {len(graphs)} graphs, not one")
    tensors = tuple(_tensor(table, buffers) for table in graphs[0].tables(0))

    def indices(table: _Table, field: int) -> tuple[int, ...]:
        found = table.integers(field, _MOST_ARGUMENTS)
        for index in found:
            if not -1 <= index < len(tensors):
                raise _DamageError(f"tensor {index} of {len(tensors)} is asked for")
        return found

    def operator(table: _Table) -> Operator:
        name = _entry(names, table.number(0, "<I"), "operator code")
        return Operator(name, indices(table, 1), indices(table, 2), _options(table))

    operators = tuple(operator(table) for table in graphs[0].tables(3))
    return Graph(tensors, operators, indices(graphs[0], 1), indices(graphs[0], 2))


def _operator_name(table: _Table) -> str:
    # The code was a byte before there were more than 127 of them; a writer fills in both.
    code = max(table.number(0, _BYTE), table.number(3, _INT))
    return table.text(1) if code == _CUSTOM else _OPERATORS.get(code, f"operator {code}")


def _tensor(table: _Table, buffers: tuple[NDArray[np.uint8], ...]) -> Tensor:
    name, shape = table.text(3), table.integers(0, _MOST_DIMENSIONS)
    kind = _DTYPES.get(table.number(1, _BYTE))
    dtype = None if kind is None else np.dtype(kind).newbyteorder("<")
    stored = _entry(buffers, table.number(2, "<I"), "buffer")
    data = None
    if stored.size and dtype is not None:
        if min(shape, default=1) < 0 or prod(shape) * dtype.itemsize != stored.size:
            raise _DamageError(f"{stored.size} bytes for {dtype} of shape {shape}")
        data = stored.view(dtype).reshape(shape)
    quantisation = table.table(4)
    if quantisation is None:
        return Tensor(name, shape, dtype, np.empty(0, np.float32), np.empty(0, np.int64), 0, data)
    scale, zero_point = quantisation.array(2, np.float32), quantisation.array(3, np.int64)
    return Tensor(name, shape, dtype, scale, zero_point, quantisation.number(6, _INT), data)


def _options(operator: _Table) -> dict[str, int]:
    fields = _OPTIONS.get(operator.number(3, "<B"), ())
    table = operator.table(4) if fields else None
    if table is None:
        return {}
    return {name: table.number(index, form, default) for index, (name, form, default) in enumerate(fields)}


def _entry(values: tuple[T, ...], index: int, what: str) -> T:
    if index >= len(values):
        raise _DamageError(f"{what} {index} of {len(values)} is asked for")
    return values[index]
