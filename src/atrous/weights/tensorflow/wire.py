"""The wire formats that Google's files are made of: varints and protocol buffers, without generated code.

protobuf.dev, "Encoding"; LevelDB's varints are the same.
"""

from collections.abc import Iterator


class MalformedError(Exception):
    """Bytes that are not what they should be; the message says what they are not."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """An unsigned number and the position behind it.

    Raises:
        MalformedError: the bytes end first, or it does not fit 64 bits.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise MalformedError("a number is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, position
    raise MalformedError("a number has more than 64 bits")


def read_message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer in order, as (number, value): varints and fixed numbers as int, others as bytes.

    Raises:
        MalformedError: it is cut short, or has a kind of field that no message has any more.
    """
    position = 0
    while position < len(data):
        tag, position = read_varint(data, position)
        kind = tag & 7
        if kind == 0:
            number, position = read_varint(data, position)
            yield tag >> 3, number
            continue
        if kind == 2:
            size, position = read_varint(data, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise MalformedError(f"a message holds a field of the unknown kind {kind}")
        if size > len(data) - position:
            raise MalformedError("a message is cut short")
        value = data[position : position + size]
        position += size
        yield tag >> 3, value if kind == 2 else int.from_bytes(value, "little")
