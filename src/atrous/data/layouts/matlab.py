"""One field of one struct out of a MATLAB file (MAT-File Format, level 5), which is how SBD keeps its labels."""

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.errors import DataError

_COMPRESSED, _MATRIX = 15, 14
_STRUCT = 2  # of the classes of arrays
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_HEADER = 128


def read_field(path: Path, variable: str, field: str) -> NDArray[np.uint8]:
    """A matrix of whole numbers from 0 to 255 that is a field of a 1×1 struct.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    try:
        content = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}[content[126:128]]
        return _Reader(content, order).field(variable, field).astype(np.uint8)
    except (OSError, LookupError, ValueError, TypeError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a MATLAB file with {variable}.{field} ({error!r})") from error


class _Reader:
    def __init__(self, content: bytes, order: str) -> None:
        self.content, self.order = content, order

    def field(self, variable: str, field: str) -> NDArray[np.generic]:
        place = _HEADER
        while place < len(self.content):
            kind, data, place = self._element(self.content, place, padded=False)
            if kind == _COMPRESSED:
                kind, data, _ = self._element(zlib.decompress(data), 0)
            if kind == _MATRIX:
                parts = self._elements(data)
                flags, _, name = parts[:3]
                if name.tobytes() == variable.encode() and flags[0] & 0xFF == _STRUCT:
                    return self._of_struct(parts, field)
        raise ValueError(f"no struct {variable}")

    def _of_struct(self, parts: list[NDArray[np.generic]], field: str) -> NDArray[np.generic]:
        length, names = int(parts[3][0]), parts[4].tobytes()
        fields = [names[start : start + length].split(b"\0")[0] for start in range(0, len(names), length)]
        matrix = self._elements(parts[5 + fields.index(field.encode())].tobytes())
        shape = tuple(int(side) for side in matrix[1])
        return matrix[3].reshape(shape, order="F")

    def _elements(self, data: bytes) -> list[NDArray[np.generic]]:
        """The parts of a matrix; those that are matrices themselves as bytes."""
        parts, place = [], 0
        while place < len(data):
            kind, content, place = self._element(data, place)
            parts.append(np.frombuffer(content, self.order + _TYPES.get(kind, "u1")))
        return parts

    def _element(self, data: bytes, place: int, padded: bool = True) -> tuple[int, bytes, int]:
        """An element's type and bytes, and where the next one begins; short ones lie within their tag."""
        kind, size = struct.unpack_from(f"{self.order}II", data, place)
        if kind >> 16:
            return kind & 0xFFFF, data[place + 4 : place + 4 + (kind >> 16)], place + 8
        end = place + 8 + size
        if end > len(data):
            raise ValueError("it is cut short")
        return kind, data[place + 8 : end], end + (-size % 8 if padded else 0)
