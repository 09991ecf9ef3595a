"""The papers' augmentation: random scale, crop and flip, and beside it other light and other cameras."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.uint8]
Positions = NDArray[np.float64]

_LEAST_BLUR = 0.25  # pixels; below, a neighbour's share rounds to nothing


@dataclass(frozen=True)
class Placement:
    """Where a crop lies in a photo, which is brought to a size, cut, and mirrored.

    Attributes:
        size: (height, width) that the photo is brought to.
        corner: (top, left) of the crop in it; negative where the photo is smaller and lies somewhere inside the crop.
        crop: (height, width).
        mirrored: left and right, after the cut.
    """

    size: tuple[int, int]
    corner: tuple[int, int]
    crop: tuple[int, int]
    mirrored: bool

    def photo(self, image: Array, pad_colour: Array) -> Array:
        """uint8 H×W×3 to the crop's size; `pad_colour` where there is no photo."""
        shrink = cv2.INTER_AREA if self.size[0] < image.shape[0] else cv2.INTER_LINEAR
        return self._cut(cv2.resize(image, self.size[::-1], interpolation=shrink), pad_colour)

    def mask(self, mask: Array, ignore_index: int = 255) -> Array:
        """uint8 H×W to the crop's size; `ignore_index` where there is no photo."""
        scaled = cv2.resize(mask, self.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return self._cut(scaled, np.array(ignore_index, np.uint8))

    def positions(
        self, photo: tuple[int, int], points: tuple[int, int], align_corners: bool
    ) -> tuple[Positions, Positions]:
        """Where points that are spread over the crop lie in the photo, in its pixels: of their rows and columns.

        A value below -.5, or above the photo's side less .5, lies outside.

        Args:
            photo: (height, width) of the photo as it was.
            points: (rows, columns) of points.
            align_corners: whether the outer points are the crop's corner pixels, as for a model's logits.
        """
        rows, columns = (
            (_spread(crop, count, align_corners, mirrored) + start + 0.5) * side / scaled - 0.5
            for crop, count, mirrored, start, side, scaled in zip(
                self.crop, points, (False, self.mirrored), self.corner, photo, self.size, strict=True
            )
        )
        return rows, columns

    def _cut(self, scaled: NDArray[Any], outside: Array) -> Array:
        (top, left), (height, width) = self.corner, self.crop
        rows = slice(max(top, 0), min(top + height, scaled.shape[0]))
        columns = slice(max(left, 0), min(left + width, scaled.shape[1]))
        cut = scaled[rows, columns]
        if cut.shape[:2] != self.crop:
            inside = cut
            cut = np.empty((height, width, *scaled.shape[2:]), np.uint8)
            cut[:] = outside
            cut[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inside
        return np.ascontiguousarray(cut[:, ::-1] if self.mirrored else cut, dtype=np.uint8)


def _spread(crop: int, count: int, align_corners: bool, mirrored: bool) -> Positions:
    """So many places along one side of a crop, in its pixels."""
    places = np.linspace(0.0, crop - 1.0, count) if align_corners else (np.arange(count) + 0.5) * crop / count - 0.5
    return crop - 1 - places if mirrored else places


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training photo.

    Attributes:
        crop: (height, width) of every sample, k·output_stride + 1 for exact corners.
        scale: the photo's size is multiplied by a random number between these two (v3, section 4.1: .5 to 2.0).
        scale_step: that number is one of those so far apart, from the smaller of the two on; 0 takes any between them.
        flip: mirror left and right, every other time.
        brightness, contrast, saturation: each multiplies by a number within 1 ± this; gamma likewise, as an exponent.
        white_balance: each channel is multiplied by its own number within 1 ± this.
        blur: the deviation of a Gaussian blur is drawn between 0 and this many pixels of the crop.
        noise: that of normal noise in each value, between 0 and this share of white.
        class_crops: the share of crops that are placed around a pixel of a class drawn evenly from those present,
            so that small classes are seen more often.
    """

    crop: tuple[int, int] = (513, 513)
    scale: tuple[float, float] = (0.5, 2.0)
    scale_step: float = 0.0
    flip: bool = True
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    gamma: float = 0.0
    white_balance: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    class_crops: float = 0.0

    def __call__(
        self, image: Array, mask: Array, rng: np.random.Generator, pad_colour: Array, ignore_index: int = 255
    ) -> tuple[Array, Array]:
        """uint8 H×W×3 and H×W to the same of the crop's size; what lies outside the photo is `ignore_index`."""
        placement = self.place(mask, rng, ignore_index)
        return self.taken(placement.photo(image, pad_colour), rng), placement.mask(mask, ignore_index)

    def place(self, mask: Array, rng: np.random.Generator, ignore_index: int = 255) -> Placement:
        """Draws where the crop lies in a photo with these labels, uint8 H×W."""
        factor = self._factor(rng)
        height, width = (max(1, round(side * factor)) for side in mask.shape)
        corner = self._corner(mask, (height, width), rng, ignore_index)
        return Placement((height, width), corner, self.crop, self.flip and bool(rng.random() < 0.5))

    def _factor(self, rng: np.random.Generator) -> float:
        low, high = self.scale
        if not self.scale_step:
            return float(rng.uniform(low, high))
        return low + self.scale_step * int(rng.integers(int((high - low) / self.scale_step + 1e-6) + 1))

    def _corner(
        self, mask: Array, size: tuple[int, int], rng: np.random.Generator, ignore_index: int
    ) -> tuple[int, int]:
        """The crop's place in the photo that was brought to `size`."""
        spare = [side - crop for side, crop in zip(size, self.crop, strict=True)]
        if rng.random() < self.class_crops:
            # np.unique takes three times as long.
            classes = np.flatnonzero(np.bincount(mask.reshape(-1))).astype(np.uint8)
            classes = classes[classes != ignore_index]
            if len(classes):
                places = np.flatnonzero(mask == rng.choice(classes))
                pixel = divmod(int(rng.choice(places)), mask.shape[1])
                centre = [(2 * p + 1) * new // (2 * old) for p, new, old in zip(pixel, size, mask.shape, strict=True)]
                offset = [int(rng.integers(crop)) for crop in self.crop]
                top, left = (
                    int(np.clip(c - o, min(s, 0), max(s, 0))) for c, o, s in zip(centre, offset, spare, strict=True)
                )
                return top, left
        top, left = (int(rng.integers(min(s, 0), max(s, 0) + 1)) for s in spare)
        return top, left

    def taken(self, image: Array, rng: np.random.Generator) -> Array:
        """A photo, uint8 H×W×3, as if taken in other light and by another camera."""
        return self._in_camera(self._in_light(image, rng), rng)

    def _in_light(self, image: Array, rng: np.random.Generator) -> Array:
        if not (self.brightness or self.contrast or self.saturation or self.gamma or self.white_balance):
            return image
        gain, contrast, saturation, gamma = (
            float(rng.uniform(1 - amount, 1 + amount))
            for amount in (self.brightness, self.contrast, self.saturation, self.gamma)
        )
        # Gain, contrast, gamma and the white balance act on each value alone, so they are one table of 256.
        table = (np.arange(256) / 255.0) ** gamma * gain
        middle = float(image[::4, ::4].mean()) / 255.0
        table = ((table - middle) * contrast + middle) * 255.0
        if self.white_balance:
            table = table[None, :, None] * rng.uniform(1 - self.white_balance, 1 + self.white_balance, 3)
        image = cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8)).astype(np.uint8, copy=False)
        if self.saturation:
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0).astype(np.uint8, copy=False)
        return image

    def _in_camera(self, image: Array, rng: np.random.Generator) -> Array:
        if self.blur:
            deviation = float(rng.uniform(0, self.blur))
            if deviation > _LEAST_BLUR:
                image = cv2.GaussianBlur(image, (0, 0), deviation).astype(np.uint8, copy=False)
        if self.noise:
            grain = rng.standard_normal(image.shape, np.float32)
            grain *= 255 * float(rng.uniform(0, self.noise))
            grain += image
            image = np.clip(np.rint(grain, out=grain), 0, 255, out=grain).astype(np.uint8)
        return image
