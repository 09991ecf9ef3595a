"""What every explanation is: a picture, the numbers in it, and the arrays behind it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from atrous.files import replacing
from atrous.viz import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Explanation(Protocol):
    """The result of each function of this room."""

    def plot(self) -> "Figure": ...

    def numbers(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        ...

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What the picture is drawn from."""
        ...


def save(explanation: Explanation, path: str | Path) -> list[Path]:
    """Writes the picture as its suffix says (.png, .svg, .pdf), and the arrays beside it as .npz.

    Returns:
        The two files.

    Raises:
        AtrousError: another suffix, or a place that cannot be written.
    """
    picture = plots.save(explanation.plot(), path)
    data = picture.with_suffix(".npz")
    with replacing(data) as unfinished:
        np.savez_compressed(unfinished, allow_pickle=False, **explanation.arrays())
    return [picture, data]
