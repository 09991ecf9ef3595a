"""Colours for models that bring none."""

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError


def label_colours(count: int) -> NDArray[np.uint8]:
    """The PASCAL VOC colour map: uint8 count×3, RGB, for labels 0 to count - 1.

    Label 0 is black, and 255, VOC's "void", a light sand (224, 224, 192). Neighbouring labels get
    colours that lie far apart: bits 0, 1 and 2 of the label become the highest bits of red, green and
    blue, bits 3, 4 and 5 the next highest, and so on.

    Raises:
        AtrousError: a count that is not within 1 to 256.
    """
    if not 1 <= count <= 256:
        raise AtrousError(f"a colour map has 1 to 256 colours, as labels are 8 bits: {count} were asked for")
    labels = np.arange(count, dtype=np.uint8)[:, None] >> np.arange(3, dtype=np.uint8)  # R, G, B's own bits
    colours = np.zeros((count, 3), dtype=np.uint8)
    for triple in range(3):
        colours |= ((labels >> (3 * triple)) & 1) << (7 - triple)
    return colours
