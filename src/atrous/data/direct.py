"""Files that OpenCV decodes better than Pillow: very large ones, and colour of more than 8 bits a channel.

Pillow keeps 4 bytes a pixel and copies them on their way to an array: at 20,000 × 20,000 pixels that is
4 GB for an array of 1.2 GB. OpenCV decodes into the array itself. And Pillow cuts 16-bit colour to its high
byte, which leaves next to nothing of a 12-bit photo. What OpenCV does not do is complain: it gives a JPEG
that was cut short a grey rest, so the file's end is checked here first.

OpenCV has a limit of its own, 2**30 pixels unless OPENCV_IO_MAX_IMAGE_PIXELS says otherwise. What it refuses
is left to Pillow, which then either reads it or says what is wrong.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from atrous.data.pixels import Rgb, rgb_from_samples
from atrous.errors import ImageError

LARGE_PIXELS = 1 << 22
"""From how many pixels on 8-bit files are decoded directly: below, Pillow is as fast."""

ORIENTATION = 0x0112
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_BIT_DEPTH, _COLOUR_TYPE = 24, 25  # bytes of a PNG's IHDR

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _INTERPRETATION = 256, 257, 258, 259, 262  # tags of a TIFF
_SAMPLES, _PLANAR, _EXTRA_SAMPLES = 277, 284, 338
_TIFF_KINDS = ((1, 1), (2, 3), (2, 4), (6, 3))  # interpretation and samples: grey, RGB, RGB and one more, YCbCr
_TIFF_COMPRESSIONS = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, deflate, PackBits, deflate

# EXIF orientation: whether rows become columns, and cv2.flip's code for what follows.
_TURNS: dict[int, tuple[bool, int | None]] = {
    1: (False, None),
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}

_ROWS = 256  # of which red and blue are swapped at once
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # neither a stuffed 0xFF of a scan nor a restart


@dataclass(frozen=True)
class DirectFile:
    """How a file is read directly.

    Attributes:
        size: (height, width) as stored.
        deep: more than 8 bits a channel.
        orientation: the EXIF orientation, 1 to 8, that is still to be applied.
        alpha: whether a fourth channel is transparency, and not something else.
    """

    size: tuple[int, int]
    deep: bool
    orientation: int = 1
    alpha: bool = True


def direct_pillow(stream: BinaryIO, image: Image.Image) -> DirectFile | None:
    """For an image that Pillow has opened but not decoded; None if Pillow had better decode it too.

    Raises:
        ImageError: the file is cut short.
    """
    width, height = image.size
    plain = image.mode in ("L", "RGB") and "transparency" not in image.info
    large = plain and width * height >= LARGE_PIXELS
    if image.format in ("JPEG", "MPO") and large:
        if not _jpeg_ends(stream):
            raise ImageError("is cut short: the JPEG's end is missing")
        return DirectFile((height, width), False, orientation_of(image))
    if image.format == "PNG" and getattr(image, "n_frames", 1) == 1:
        stream.seek(0)
        header = stream.read(_COLOUR_TYPE + 1)
        deep = header[_BIT_DEPTH] == 16 and header[_COLOUR_TYPE] in (2, 4, 6)  # grey alone is whole in Pillow
        orientation = _png_orientation(stream)
        if deep or large:
            return DirectFile((height, width), deep, orientation)
    return None


def direct_tiff(stream: BinaryIO) -> DirectFile | None:
    """For a TIFF, also one that Pillow does not open; None if it is one that Pillow should decode.

    A TIFF that lies on its side is Pillow's: OpenCV's versions differ in whether they turn it.
    """
    try:
        tags = _tiff_tags(stream)
        width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
        bits, samples = max(tags.get(_BITS, (1,))), tags.get(_SAMPLES, 1)
        kind = tags.get(_INTERPRETATION), samples
        usual = tags.get(_PLANAR, 1) == 1 and tags.get(ORIENTATION, 1) == 1
        if not usual or kind not in _TIFF_KINDS or tags.get(_COMPRESSION, 1) not in _TIFF_COMPRESSIONS:
            return None
        alpha = bool({1, 2} & set(tags.get(_EXTRA_SAMPLES, ())))
    except Exception:  # a damaged directory, of which Pillow says what is wrong with it
        return None
    deep = bits > 8 and samples > 1
    large = bits == 8 and samples < 4 and width * height >= LARGE_PIXELS
    if not (deep or large):
        return None
    return DirectFile((height, width), deep, alpha=alpha)


def read_direct(file: Path | BinaryIO, direct: DirectFile) -> Rgb | None:
    """The pixels as stored, not yet upright, with no second array of their size; None if OpenCV refuses."""
    with _named(file) as name, contextlib.suppress(cv2.error, TypeError, ValueError):
        if direct.deep:
            samples = cv2.imread(name, cv2.IMREAD_UNCHANGED)
            if samples is None or samples.ndim != 3:
                return None
            order = [2, 1, 0, 3] if samples.shape[2] == 4 and direct.alpha else [2, 1, 0]
            return rgb_from_samples(samples[..., order])
        rgb: Rgb = np.empty((*direct.size, 3), dtype=np.uint8)
        # An array that cv2 makes itself is copied on its way to Python; one that it is given is filled.
        filled = cv2.imread(name, rgb, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if filled is None or not np.may_share_memory(filled, rgb):
            return None
        for top in range(0, len(rgb), _ROWS):
            rgb[top : top + _ROWS] = cv2.cvtColor(rgb[top : top + _ROWS], cv2.COLOR_BGR2RGB)
        return rgb
    return None


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none that makes sense."""
    try:
        orientation = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken EXIF block is no reason to refuse the photo, and Pillow raises all sorts
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def upright(stored: Rgb, orientation: int) -> Rgb:
    """The pixels as the photographer saw them, in place if the image need not be turned by a quarter or is square."""
    transposed, flip = _TURNS[orientation]
    if transposed:
        height, width = stored.shape[:2]
        stored = np.asarray(cv2.transpose(stored, stored if height == width else None))
    if flip is not None:
        stored = np.asarray(cv2.flip(stored, flip, stored))
    return stored


def _tiff_tags(stream: BinaryIO) -> TiffImagePlugin.ImageFileDirectory_v2:
    stream.seek(0)
    head = stream.read(8)
    if b"+" in head[2:4]:  # BigTIFF
        head += stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


def _jpeg_ends(stream: BinaryIO) -> bool:
    """Whether the image's own end marker is there: not a thumbnail's, and whatever may follow it."""
    stream.seek(2)
    while marker := _next_marker(stream):
        if marker == b"\xff\xd9":
            return True
        length = int.from_bytes(stream.read(2), "big")
        stream.seek(max(0, length - 2), 1)
    return False


def _next_marker(stream: BinaryIO) -> bytes:
    """Reads up to and with the next marker, past what a scan holds; empty if there is none."""
    while chunk := stream.read(1 << 20):
        if found := _MARKER.search(chunk):
            stream.seek(found.end() - len(chunk), 1)
            return found.group()
        if chunk[-1] == 0xFF and len(chunk) > 1:  # perhaps a marker's first half
            stream.seek(-1, 1)
    return b""


def _png_orientation(stream: BinaryIO) -> int:
    """The orientation of the EXIF chunk, before or after the pixels, which Pillow would decode to look for it.

    Raises:
        ImageError: the chunk that ends a PNG is not there.
    """
    end = stream.seek(0, 2)
    place = len(PNG_SIGNATURE)
    orientation = 1
    while place + 12 <= end:
        stream.seek(place)
        length, kind = int.from_bytes(stream.read(4), "big"), stream.read(4)
        if kind == b"IEND":
            return orientation
        if kind == b"eXIf":
            holder = Image.new("1", (1, 1))
            holder.info["exif"] = b"Exif\0\0" + stream.read(length)
            orientation = orientation_of(holder)
        place += 12 + length
    raise ImageError("is cut short: the PNG's end is missing")


@contextlib.contextmanager
def _named(file: Path | BinaryIO) -> Iterator[str]:
    """A file name, which is what OpenCV fills an array from."""
    if isinstance(file, Path):
        yield str(file)
        return
    with tempfile.NamedTemporaryFile(prefix="atrous-") as named:
        file.seek(0)
        shutil.copyfileobj(file, named)
        named.flush()
        yield named.name
