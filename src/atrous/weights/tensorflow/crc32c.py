"""CRC-32C (Castagnoli; RFC 3720, appendix B.4), the checksum in LevelDB's tables and TensorFlow's checkpoints."""

import numpy as np
from numpy.typing import NDArray

from atrous.ops.compiled import njit

_POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8


def crc32c(data: bytes | NDArray[np.uint8]) -> int:
    """The checksum of bytes, unmasked; a GB takes less than a second."""
    # Writable like the arrays that come: numba would compile a second function for one that is not.
    array = np.frombuffer(bytearray(data), np.uint8) if isinstance(data, bytes) else data
    whole = len(array) // 8 * 8
    words = array[:whole].view("<u4")
    return int(_checksum(words, array[whole:], _TABLES)) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | NDArray[np.uint8]) -> int:
    """The checksum in the form that LevelDB and TensorFlow store, turned by 15 bits and with a constant added."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _make_tables() -> NDArray[np.uint32]:
    """8×256 for "slicing by 8": row n is what a byte does to the checksum when n zero bytes follow it."""
    table: NDArray[np.uint32] = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = ((table >> 1) ^ (table & 1) * np.uint32(_POLYNOMIAL)).astype(np.uint32)
    tables = [table]
    for _ in range(7):
        tables.append((tables[-1] >> 8) ^ table[tables[-1] & 0xFF])
    return np.stack(tables)


_TABLES = _make_tables()


@njit(nogil=True, cache=True)
def _checksum(words, rest, tables):  # type: ignore[no-untyped-def]
    """Two words of 32 bits a step, then the bytes that are left."""
    crc = np.uint32(0xFFFFFFFF)
    for index in range(0, len(words), 2):
        low, high = words[index] ^ crc, words[index + 1]
        crc = (
            tables[7, low & 0xFF]
            ^ tables[6, (low >> 8) & 0xFF]
            ^ tables[5, (low >> 16) & 0xFF]
            ^ tables[4, low >> 24]
            ^ tables[3, high & 0xFF]
            ^ tables[2, (high >> 8) & 0xFF]
            ^ tables[1, (high >> 16) & 0xFF]
            ^ tables[0, high >> 24]
        )
    for byte in rest:
        crc = tables[0, (crc ^ byte) & 0xFF] ^ np.uint32(crc >> 8)
    return crc
