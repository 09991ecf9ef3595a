"""Photos with their masks, whatever folders and files they come from."""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from atrous.data.classes import Classes
from atrous.data.image import read_image
from atrous.errors import DataError

Array = NDArray[np.uint8]
MaskReader: TypeAlias = Callable[[Path, Path], Array]
"""From a photo's path and that of its mask or annotation to the label map, uint8 H×W."""


class SegmentationDataset(Sequence[tuple[Array, Array]]):
    """One split of a data set. Item i is (image, mask): uint8 H×W×3 RGB and uint8 H×W.

    `open_dataset` makes these of folders.

    Attributes:
        root, split: what it was opened by.
        layout: what its folders were taken for, e.g. "Cityscapes".
        classes: the classes that its masks hold.
        images: the photos.
        masks: for each photo the file that says its labels: a picture, or annotations.
        read_mask: how that file is read.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        layout: str,
        classes: Classes,
        pairs: Iterable[tuple[Path, Path]],
        read_mask: MaskReader,
    ) -> None:
        pairs = list(pairs)
        self.root, self.split, self.layout, self.classes = root, split, layout, classes
        self.images = [image for image, _ in pairs]
        self.masks = [mask for _, mask in pairs]
        self.read_mask = read_mask

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Array, Array]:  # type: ignore[override]
        image, mask = read_image(self.images[index]), self.mask(index)
        if mask.shape != image.shape[:2]:
            sizes = f"{mask.shape[1]}×{mask.shape[0]}, its photo {image.shape[1]}×{image.shape[0]}"
            where = f"{self.masks[index]}: is"
            if self.masks.count(self.masks[index]) > 1:  # as COCO's
                where = f"{self.masks[index]}: its mask of {self.images[index]} is"
            raise DataError(f"{where} {sizes}; they must be the same size")
        return image, mask

    def mask(self, index: int) -> Array:
        """The label map of photo `index`: uint8 H×W, 0..K-1 or `ignore_index`.

        Raises:
            DataError: it cannot be read, or holds other labels.
        """
        mask = self.read_mask(self.images[index], self.masks[index])
        seen = np.bincount(mask.reshape(-1), minlength=256).astype(bool)
        seen[self.classes.ignore_index] = False
        if seen[len(self.classes.names) :].any():
            worst = int(np.flatnonzero(seen)[-1])
            limits = f"0 to {len(self.classes.names) - 1} or {self.classes.ignore_index} (ignored)"
            raise DataError(f"{self.masks[index]}: holds the label {worst}; its classes allow {limits}")
        return mask

    def fingerprint(self) -> str:
        """What tells the split from another: of its classes' names, and its photos' and masks' names and sizes.

        They are not opened: a mask that was changed has another number of bytes, or almost certainly so.
        """
        digest = sha256("\n".join(self.classes.names).encode())
        for path in (*self.images, *dict.fromkeys(self.masks)):  # COCO's one file is that of all photos
            try:
                size = path.stat().st_size
            except OSError:
                size = -1
            digest.update(f"\n{path.name} {size}".encode())
        return digest.hexdigest()[:12]

    def require_masks(self) -> None:
        """Every photo's mask is there.

        Raises:
            DataError: the first that is not, by name.
        """
        if not self.images:
            raise DataError(f"{self.root}: its split {self.split!r} holds no images")
        for image, mask in zip(self.images, self.masks, strict=True):
            if not mask.is_file():
                raise DataError(f"{image}: has no mask; {mask} is missing")
