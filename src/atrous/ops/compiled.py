"""numba's `njit`, which does without its cache where that cannot be written."""

from collections.abc import Callable
from typing import Any

import numba


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As `numba.njit`; with `cache=True` numba itself refuses to compile where nothing can be written.

    That is where neither the package's folder nor the user's own can be, as in a read-only container.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(**options)(function)
        except RuntimeError as error:
            if "cannot cache function" not in str(error):
                raise
            return numba.njit(**{**options, "cache": False})(function)

    return compiled
