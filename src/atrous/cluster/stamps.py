"""A stamp in a written file: of which photo it was made, so that a later run knows what is done."""

import struct
import zlib

_PNG, _PNG_HEADER = b"\x89PNG", 33  # the signature and the chunk that begins every PNG
_JPEG, _APP0, _COMMENT = b"\xff\xd8", b"\xff\xe0", b"\xff\xfe"
WITHIN = 512  # bytes of a file's beginning: its stamp lies there


def stamped(content: bytes, stamp: bytes) -> bytes:
    """A PNG or JPEG file with the stamp as a text chunk or a comment, which viewers pass over."""
    if content.startswith(_PNG):
        at, body = _PNG_HEADER, b"tEXtatrous\0" + stamp
        piece = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    else:
        at = 2 if content[2:4] != _APP0 else 4 + int.from_bytes(content[4:6], "big")
        piece = _COMMENT + struct.pack(">H", len(stamp) + 2) + stamp
    return content[:at] + piece + content[at:]
