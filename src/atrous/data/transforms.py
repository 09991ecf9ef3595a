"""The papers' augmentation: random scale, crop and flip, and beside it changes of light and colour."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training photo.

    Attributes:
        crop: (height, width) of every sample, k·output_stride + 1 for exact corners.
        scale: the photo's size is multiplied by a random number between these two (v3, section 4.1: .5 to 2.0).
        flip: mirror left and right, every other time.
        brightness, contrast, saturation: each multiplies by a number within 1 ± this; gamma likewise, as an exponent.
        class_crops: the share of crops that are placed around a pixel of a class drawn evenly from those present,
            so that small classes are seen more often.
    """

    crop: tuple[int, int] = (513, 513)
    scale: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0
    class_crops: float = 0.0

    def __call__(
        self, image: Array, mask: Array, rng: np.random.Generator, pad_colour: Array, ignore_index: int = 255
    ) -> tuple[Array, Array]:
        """uint8 H×W×3 and H×W to the same of the crop's size; what lies outside the photo is `ignore_index`."""
        image, mask = self._rescale(image, mask, float(rng.uniform(*self.scale)))
        top, left = self._place(mask, rng, ignore_index)
        image, mask = _cut(image, mask, top, left, self.crop, pad_colour, ignore_index)
        if self.flip and rng.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return np.ascontiguousarray(self._colours(image, rng)), np.ascontiguousarray(mask)

    def _rescale(self, image: Array, mask: Array, factor: float) -> tuple[Array, Array]:
        size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
        shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        scaled = cv2.resize(image, size, interpolation=shrink)
        return scaled.astype(np.uint8, copy=False), cv2.resize(
            mask, size, interpolation=cv2.INTER_NEAREST_EXACT
        ).astype(np.uint8, copy=False)

    def _place(self, mask: Array, rng: np.random.Generator, ignore_index: int) -> tuple[int, int]:
        """The crop's corner; negative where the photo is smaller than the crop and lies somewhere inside it."""
        spare = [size - crop for size, crop in zip(mask.shape, self.crop, strict=True)]
        if rng.random() < self.class_crops:
            classes = np.flatnonzero(np.bincount(mask.reshape(-1))).astype(
                np.uint8
            )  # np.unique takes three times as long
            classes = classes[classes != ignore_index]
            if len(classes):
                places = np.flatnonzero(mask == rng.choice(classes))
                centre = divmod(int(rng.choice(places)), mask.shape[1])
                offset = [int(rng.integers(crop)) for crop in self.crop]
                return tuple(  # type: ignore[return-value]
                    int(np.clip(c - o, min(s, 0), max(s, 0))) for c, o, s in zip(centre, offset, spare, strict=True)
                )
        return tuple(int(rng.integers(min(s, 0), max(s, 0) + 1)) for s in spare)  # type: ignore[return-value]

    def _colours(self, image: Array, rng: np.random.Generator) -> Array:
        if not (self.brightness or self.contrast or self.saturation or self.gamma):
            return image
        gain, contrast, saturation, gamma = (
            float(rng.uniform(1 - amount, 1 + amount))
            for amount in (self.brightness, self.contrast, self.saturation, self.gamma)
        )
        # Gain, contrast and gamma act on each value alone, so they are one table of 256.
        table = (np.arange(256) / 255.0) ** gamma * gain
        middle = float(image[::4, ::4].mean()) / 255.0
        table = np.clip(((table - middle) * contrast + middle) * 255.0, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table).astype(np.uint8, copy=False)
        if self.saturation:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0).astype(np.uint8, copy=False)
        return image


def _cut(
    image: Array,
    mask: Array,
    top: int,
    left: int,
    crop: tuple[int, int],
    pad_colour: Array,
    ignore_index: int,
) -> tuple[Array, Array]:
    height, width = crop
    if top >= 0 and left >= 0 and top + height <= mask.shape[0] and left + width <= mask.shape[1]:
        return image[top : top + height, left : left + width], mask[top : top + height, left : left + width]
    out_image = np.empty((height, width, 3), np.uint8)
    out_image[:] = pad_colour
    out_mask = np.full((height, width), ignore_index, np.uint8)
    rows = slice(max(top, 0), min(top + height, mask.shape[0]))
    columns = slice(max(left, 0), min(left + width, mask.shape[1]))
    target = (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
    out_image[target], out_mask[target] = image[rows, columns], mask[rows, columns]
    return out_image, out_mask
