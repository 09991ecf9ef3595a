"""LevelDB's table format (google/leveldb, `doc/table_format.md`): sorted keys with values, in blocks with checksums."""

from collections.abc import Iterator

from atrous.weights.tensorflow.crc32c import masked_crc32c
from atrous.weights.tensorflow.wire import MalformedError, read_varint

MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48  # two block handles in 40 bytes, then the magic number
_TRAILER = 5  # a block's compression and its checksum
_LONGEST_KEY = 1024
_MOST_ENTRIES = 100_000


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, in order.

    What is yielded is bounded whatever the bytes are: keys by 1 KiB, entries by 100 000 and by their order, which
    must rise.

    Raises:
        MalformedError: not such a table, or one that is damaged, cut short or compressed.
    """
    if len(data) < _FOOTER or data[-len(MAGIC) :] != MAGIC:
        raise MalformedError("it does not end as a table does; it is cut short or another kind of file")
    footer = data[-_FOOTER:]
    _, position = _read_handle(footer, 0)
    (start, size), _ = _read_handle(footer, position)
    last, end, count = None, 0, 0
    for _, handle in _entries(_read_block(data, start, size)):
        (start, size), _ = _read_handle(handle, 0)
        if start < end:
            raise MalformedError("its blocks overlap")
        end = start + size
        for key, value in _entries(_read_block(data, start, size)):
            count += 1
            if last is not None and key <= last:
                raise MalformedError("its keys are not in order")
            if count > _MOST_ENTRIES:
                raise MalformedError(f"it has more than {_MOST_ENTRIES} entries")
            last = key
            yield key, value


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """A block's (offset, size), and the position behind it."""
    start, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (start, size), position


def _read_block(data: bytes, start: int, size: int) -> bytes:
    end = start + size
    if end + _TRAILER > len(data):
        raise MalformedError("a block reaches past its end")
    stored = int.from_bytes(data[end + 1 : end + _TRAILER], "little")
    if masked_crc32c(data[start : end + 1]) != stored:
        raise MalformedError("a block's checksum is wrong")
    if data[end] != 0:
        raise MalformedError("a block is compressed, which TensorFlow has not written since 1.2")
    return data[start:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values; a key says how many bytes it shares with the one before it."""
    if len(block) < 4:
        raise MalformedError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")  # where keys share nothing: for searching, which is not done here
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise MalformedError("a block is too short")
    key, position = b"", 0
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        size, position = read_varint(block, position)
        if shared > len(key) or shared + unshared > _LONGEST_KEY or position + unshared + size > end:
            raise MalformedError("an entry of a block is out of bounds")
        key = key[:shared] + block[position : position + unshared]
        position += unshared + size
        yield key, block[position - size : position]
