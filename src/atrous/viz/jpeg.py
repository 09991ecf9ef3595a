"""A JPEG file written strip by strip, so that a very large overlay never lies in memory whole.

A baseline JPEG may hold restart markers: after each the coder starts afresh, as it does at the top of a
file. So strips that were compressed each for itself, with the same tables, become one image when a restart
marker stands between them and the header gives the whole height. What comes out decodes to the same pixels
as the image compressed in one piece. (ITU-T T.81, B.2.1 for the markers, E.1.4 for the restarts.)
"""

import io
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.errors import AtrousError

_BLOCK = 16  # pixels a side of the unit that 4:2:0 JPEG codes at once
_MAX_INTERVAL = 65535  # units between two restart markers: 16 bits
_MAX_SIDE = 65500  # libjpeg's

_SOF0, _SOS = 0xC0, 0xDA


def strip_rows(width: int) -> int:
    """How many rows each strip that goes to `write_jpeg` holds: 16 million pixels or a little less."""
    return _BLOCK * max(1, _MAX_INTERVAL // _units(width))


def write_jpeg(file: BinaryIO, strips: Iterable[NDArray[np.uint8]], size: tuple[int, int], quality: int = 92) -> None:
    """Writes a baseline 4:2:0 JPEG from strips of rows.

    Args:
        file: written from its current position on.
        strips: uint8 RGB, `strip_rows(width)` rows each, the last may have fewer; taken one at a time.
        size: the whole image's (height, width).
        quality: libjpeg's, 1 to 95.

    Raises:
        AtrousError: an image with a side of more than 65,500 pixels, which JPEG does not hold.
    """
    height, width = size
    if max(size) > _MAX_SIDE:
        raise AtrousError(f"a JPEG has at most {_MAX_SIDE:,} pixels a side, not {height}×{width}: write a PNG")
    for index, strip in enumerate(strips):
        coded = io.BytesIO()
        Image.fromarray(strip).save(coded, "JPEG", quality=quality, subsampling="4:2:0")
        jpeg = coded.getvalue()
        frame, scan, data = _layout(jpeg)
        if index == 0:
            interval = _units(width) * -(-len(strip) // _BLOCK) if len(strip) < height else 0
            file.write(jpeg[: frame + 5] + height.to_bytes(2, "big") + jpeg[frame + 7 : scan])
            if interval:
                file.write(b"\xff\xdd\x00\x04" + interval.to_bytes(2, "big"))
            file.write(jpeg[scan:data])
        else:
            file.write(bytes((0xFF, 0xD0 + (index - 1) % 8)))
        file.write(memoryview(jpeg)[data:-2])
    file.write(b"\xff\xd9")


def _units(width: int) -> int:
    """Units in one row of them."""
    return -(-width // _BLOCK)


def _layout(jpeg: bytes) -> tuple[int, int, int]:
    """Where the frame header, the scan header and the scan's data begin."""
    frame, place = -1, 2
    while jpeg[place + 1] != _SOS:
        if jpeg[place + 1] == _SOF0:
            frame = place
        place += 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
    return frame, place, place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
