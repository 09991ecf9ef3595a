"""Photos to read, and files made of them."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data import direct

Pixels = NDArray[np.uint8]


def make_photo(height: int = 61, width: int = 90) -> Pixels:
    """Smooth colours, so that lossy formats keep them, with no symmetry that a wrong turn could hide in."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    colours = np.stack((x, y, 0.3 + 0.5 * x * y), axis=-1)
    return np.rint(255 * colours).astype(np.uint8)


PHOTO = make_photo()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def farthest(one: NDArray[np.generic], other: NDArray[np.generic]) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def png(rows: NDArray[np.generic], colour_type: int, extra: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of big-endian samples, H×W×C, with chunks before and after the pixels."""
    height, width = rows.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * rows.dtype.itemsize, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.astype(rows.dtype.newbyteorder(">")).tobytes() for row in rows))
    return direct.PNG_SIGNATURE + b"".join(
        (png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", data), after, png_chunk(b"IEND", b""))
    )


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block
