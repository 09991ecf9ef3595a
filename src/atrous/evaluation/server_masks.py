"""Masks as the test servers of Cityscapes and ADE20K take them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.classes import known_classes
from atrous.data import SegmentationDataset
from atrous.errors import AtrousError
from atrous.files import replacing
from atrous.inference import Segmentation

FORMATS = ("labels", "cityscapes", "ade20k")

# The ids of the 19 classes that are judged, in the order of their training ids (cityscapesScripts, labels.py).
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def mask_writer(
    directory: str | Path, format: str, classes: tuple[str, ...], dataset: SegmentationDataset
) -> Callable[[Segmentation], None]:
    """A function that writes a prediction as DIRECTORY/NAME.png, NAME being its photo's without the suffix.

    Args:
        format: "labels": a palette PNG of the classes' indices, as `atrous predict` writes; "cityscapes": a grey PNG of
            Cityscapes' ids (road is 7); "ade20k": a grey PNG of 1 to 150, as of ADE20K's annotations.
        classes: the model's, which must be that benchmark's own.
        dataset: whose photos are predicted.

    Raises:
        AtrousError: another format, a model of other classes, photos that share a name, or a directory in which files
            of the data set would be replaced.
    """
    directory = Path(directory)
    _check_places(directory, dataset)
    if format == "labels":

        def save(result: Segmentation) -> None:
            result.save(_place(directory, result), "mask")

        return save
    table = _table(format, classes)

    def write(result: Segmentation) -> None:
        with replacing(_place(directory, result)) as unfinished:
            Image.fromarray(table[result.labels]).save(unfinished, "PNG")

    return write


def _check_places(directory: Path, dataset: SegmentationDataset) -> None:
    stems = Counter(photo.stem for photo in dataset.images)
    [(name, count)] = stems.most_common(1)
    if count > 1:
        raise AtrousError(f"{directory / name}.png would be written for {count} photos of that name: rename them")
    folders = {path.parent.resolve() for path in (*dataset.images, *dataset.masks)}
    if directory.resolve() in folders:
        raise AtrousError(f"{directory}: holds files of the data set, which masks could replace: give another folder")


def _place(directory: Path, result: Segmentation) -> Path:
    return directory / f"{result.source.stem if result.source else 'image'}.png"


def _table(format: str, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """For each index of the model's the server's number."""
    if format == "cityscapes":
        ids = dict(zip(known_classes("cityscapes")[0], _CITYSCAPES_IDS, strict=True))
    elif format == "ade20k":
        names, _ = known_classes("ade20k")
        ids = {name: index + 1 for index, name in enumerate(names)}
        ids["background"] = 0  # TensorFlow's models have it before the others
    else:
        raise AtrousError(f"format {format!r} is unknown: give one of {', '.join(FORMATS)}")
    strange = [name for name in classes if name not in ids]
    if strange:
        raise AtrousError(f"format {format!r} does not fit this model: {strange[0]!r} is none of {format}'s classes")
    return np.array([ids[name] for name in classes], np.uint8)
