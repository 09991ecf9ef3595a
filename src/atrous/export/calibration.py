"""The photos that an 8-bit model is made by, and what it loses on others."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data import find_images, list_splits, open_dataset, read_image
from atrous.errors import AtrousError, DataError
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.export.compared import Run
from atrous.export.deployed import Size

Item = TypeVar("Item")

_MOST = 64  # photos of each kind: ranges hardly move after the first dozens


@dataclass(frozen=True)
class Loss:
    """What 8 bits cost.

    Attributes:
        agreement: the share of pixels with the float model's label.
        miou: of the 8-bit model and of the float one, where the photos have masks.
    """

    agreement: float
    miou: tuple[float, float] | None


class Calibration:
    """Photos that show ranges, and others, held out, that show what is lost.

    Of a labelled folder with the splits "train" and "val" these are those. Otherwise every second photo of the folder,
    or of "val", is held out.

    Args:
        size: they are resized to it, with their masks.

    Raises:
        AtrousError: no two photos there, or a labelled folder with other classes than the model's.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...], size: Size | None = None) -> None:
        self._size = size
        splits = _splits(folder)
        self._labelled = open_dataset(folder, "val") if "val" in splits else None
        if self._labelled and self._labelled.classes.names != classes:
            raise AtrousError(f"{folder}: its classes are not the model's; give a folder of photos without masks")
        self._paths = list(self._labelled.images) if self._labelled else list(find_images([folder]))
        held_out = range(len(self._paths))
        if self._labelled and "train" in splits:
            self._seen = _spread(open_dataset(folder, "train").images)
        else:
            if len(self._paths) < 2:
                raise AtrousError(f"{folder}: holds one photo; give two or more, of which some are held out")
            self._seen = _spread(self._paths[::2])
            held_out = held_out[1::2]
        self.held_out = _spread(held_out)
        self.classes = classes

    def __len__(self) -> int:
        return len(self._seen)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return map(self._read, self._seen)

    def _read(self, path: Path) -> NDArray[np.uint8]:
        photo = read_image(path)
        return cv2.resize(photo, self._size[::-1]) if self._size else photo

    def loss(self, quantised: Run, exact: Run, progress: Callable[[], None] = lambda: None) -> Loss:
        """Both models' labels on the photos that were held out.

        Args:
            progress: called after each.
        """
        equal = pixels = 0
        matrices = [ConfusionMatrix(self.classes, self._ignored) for _ in range(2)]
        for index in self.held_out:
            photo = self._read(self._paths[index])
            labels = [_labels(run(photo[None])) for run in (quantised, exact)]
            equal += int((labels[0] == labels[1]).sum())
            pixels += labels[0].size
            if self._labelled:
                mask = self._labelled.mask(index)
                if self._size:
                    mask = cv2.resize(mask, self._size[::-1], interpolation=cv2.INTER_NEAREST)
                for matrix, found in zip(matrices, labels, strict=True):
                    matrix.add(mask, found)
            progress()
        miou = tuple(matrix.scores().miou for matrix in matrices) if self._labelled else None
        return Loss(equal / pixels, miou)  # type: ignore[arg-type]

    @property
    def _ignored(self) -> int:
        return self._labelled.classes.ignore_index if self._labelled else 255


def _splits(folder: Path) -> tuple[str, ...]:
    try:
        return list_splits(folder)
    except DataError:  # photos without masks
        return ()


def _spread(everything: Sequence[Item]) -> list[Item]:
    """At most so many, evenly."""
    return [everything[index] for index in sorted({int(i) for i in np.linspace(0, len(everything) - 1, _MOST)})]


def _labels(output: NDArray[np.generic]) -> NDArray[np.uint8]:
    """uint8 H×W of a batch of one: as they are, or those of the largest logits."""
    return np.asarray(output[0] if output.ndim == 3 else output[0].argmax(0), dtype=np.uint8)
