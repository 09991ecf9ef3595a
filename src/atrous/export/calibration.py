"""The photos that an 8-bit export is made by, and what it loses on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.data import find_images, list_splits, open_dataset, read_image
from atrous.errors import AtrousError, DataError
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.export.compared import Run
from atrous.export.deployed import Size

_MOST = 64  # photos, evenly spaced over the folder: ranges hardly move after the first dozens


@dataclass(frozen=True)
class Loss:
    """What 8 bits cost.

    Attributes:
        agreement: the share of pixels with the float model's label.
        miou: of the 8-bit file and of the float one, where the photos have masks.
    """

    agreement: float
    miou: tuple[float, float] | None


class Calibration:
    """Photos of a folder, or of a labelled one's split "val".

    Args:
        size: they are resized to it, with their masks.

    Raises:
        AtrousError: no photo there, or a labelled folder with other classes than the model's.
    """

    def __init__(self, folder: Path, classes: tuple[str, ...], size: Size | None) -> None:
        self._size = size
        self._labelled = open_dataset(folder, "val") if _has_val(folder) else None
        if self._labelled and self._labelled.classes.names != classes:
            raise AtrousError(f"{folder}: its classes are not the model's; give a folder of photos without masks")
        paths = self._labelled.images if self._labelled else list(find_images([folder]))
        self._chosen = sorted({int(index) for index in np.linspace(0, len(paths) - 1, _MOST)})
        self._paths = paths
        self.classes = classes

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for index in self._chosen:
            photo = read_image(self._paths[index])
            yield cv2.resize(photo, self._size[::-1]) if self._size else photo

    def loss(self, quantised: Run, exact: Run) -> Loss:
        """Both files' labels on the photos."""
        equal = pixels = 0
        matrices = [ConfusionMatrix(self.classes, self._ignored) for _ in range(2)]
        for index, photo in zip(self._chosen, self, strict=True):
            labels = [_labels(run(photo[None])) for run in (quantised, exact)]
            equal += int((labels[0] == labels[1]).sum())
            pixels += labels[0].size
            if self._labelled:
                mask = self._labelled.mask(index)
                if self._size:
                    mask = cv2.resize(mask, self._size[::-1], interpolation=cv2.INTER_NEAREST)
                for matrix, found in zip(matrices, labels, strict=True):
                    matrix.add(mask, found)
        miou = tuple(matrix.scores().miou for matrix in matrices) if self._labelled else None
        return Loss(equal / pixels, miou)  # type: ignore[arg-type]

    @property
    def _ignored(self) -> int:
        return self._labelled.classes.ignore_index if self._labelled else 255


def _has_val(folder: Path) -> bool:
    try:
        return "val" in list_splits(folder)
    except DataError:  # photos without masks
        return False


def _labels(output: NDArray[np.generic]) -> NDArray[np.uint8]:
    """uint8 H×W of a batch of one: as they are, or those of the largest logits."""
    return np.asarray(output[0] if output.ndim == 3 else output[0].argmax(0), dtype=np.uint8)
