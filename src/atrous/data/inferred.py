"""Classes of masks that come without `classes.json`: as many as the largest label or the different colours say."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from atrous.data.classes import IGNORED, Classes, named
from atrous.data.masks import pack_colours, read_picture
from atrous.errors import DataError

_MOST = 256


def infer_classes(masks: Iterable[Path], root: Path) -> Classes:
    """Every mask is read for it, so a folder that is used often had better say its classes.

    Masks that cannot be read are passed over; whoever needs them is told.

    Indices become "class_0" and so on, up to the largest but 255. Colours become classes in the order of their
    numbers, black first, and are called by them: "#ff0000".

    Raises:
        DataError: masks of both kinds, no class at all, or more than 255.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = [found for found in pool.map(_labels_or_colours, masks) if found is not None]
    kinds = {kind for kind, _ in seen}
    values = set().union(*(values for _, values in seen))
    mend = f'write {root / "classes.json"}: {{"classes": [names], "palette": [[r, g, b]]}}'
    if not kinds:
        raise DataError(f"{root}: no classes.json, and no mask that can be read: {mend}")
    if len(kinds) == 2:
        raise DataError(f"{root}: no classes.json, and masks of indices beside masks of colours: {mend}")
    if kinds == {"colours"}:
        if len(values) > _MOST - 1:
            raise DataError(f"{root}: no classes.json, and masks of {len(values)} colours: {mend}")
        palette = tuple((value >> 16, value >> 8 & 255, value & 255) for value in sorted(values))
        return Classes(tuple("#{:02x}{:02x}{:02x}".format(*colour) for colour in palette), palette)
    largest = max(values - {IGNORED}, default=-1)
    if not 0 <= largest < IGNORED:
        raise DataError(f"{root}: no classes.json, and masks whose largest label is {largest}: {mend}")
    return named(tuple(f"class_{index}" for index in range(largest + 1)), root)


def _labels_or_colours(path: Path) -> tuple[str, set[int]] | None:
    try:
        picture = read_picture(path)
    except DataError:
        return None
    if picture.ndim == 3:
        return "colours", set(np.unique(pack_colours(picture)).tolist())
    return "indices", set(np.unique(picture).tolist())
