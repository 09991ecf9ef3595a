"""numba's `njit`, with a cache that several processes may fill at a time, or none where that cannot be written."""

import contextlib
import glob
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import IndexDataCacheFile


class _OwnNames(IndexDataCacheFile):  # type: ignore[misc]
    """Names the file of what was compiled after what it was compiled for.

    numba counts them: of two processes that compile one function for two types at a time, both take the next number,
    and from then on one type's call runs the other's machine code.
    """

    def save(self, key: Any, data: Any) -> None:
        told = sha256(repr((self._version, self._source_stamp, key)).encode()).hexdigest()
        name = self._data_name_pattern.format(number=int(told[:15], 16))
        with contextlib.suppress(OSError):  # a full disk costs another compilation, no more
            if not self._load_index():
                self._remove_old()
            self._save_data(name, data)
            self._save_index({**self._load_index(), key: name})  # last: it names what is there

    def _remove_old(self) -> None:
        """What an earlier version of the source left."""
        pattern = f"{glob.escape(self._index_name.removesuffix('.nbi'))}.*.nbc"
        for path in Path(self._cache_path).glob(pattern):
            path.unlink(missing_ok=True)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As `numba.njit`; with `cache=True` numba itself refuses to compile where nothing can be written.

    That is where neither the package's folder nor the user's own can be, as in a read-only container.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            dispatcher = numba.njit(**options)(function)
        except RuntimeError as error:
            if "cannot cache function" not in str(error):
                raise
            return numba.njit(**{**options, "cache": False})(function)
        kept = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
        if type(kept) is IndexDataCacheFile:
            kept.__class__ = _OwnNames
        return dispatcher

    return compiled
