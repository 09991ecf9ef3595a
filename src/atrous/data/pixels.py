"""From pixels of any kind to uint8 H×W×3 RGB."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

Rgb: TypeAlias = NDArray[np.uint8]

_STRIP_SAMPLES = 1 << 24  # what is converted at once, and so the size of the temporary arrays
_WHITE = 255


def rgb_from_pillow(image: Image.Image) -> Rgb:
    """A Pillow image of any mode, in strips, so that little is held besides the image and the result."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return rgb_from_samples(np.asarray(image))
    width, height = image.size
    rows = max(1, _STRIP_SAMPLES // (4 * width))
    if height <= rows:
        return rgb_from_samples(np.asarray(_displayable(image)))
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        rgb[top : top + rows] = rgb_from_samples(np.asarray(_displayable(strip)))
    return rgb


def rgb_from_samples(samples: NDArray[Any]) -> Rgb:
    """Numbers as RGB: 8 bits as they are, bools as black and white, others by the rule of `to_eight_bits`.

    Alpha is put over white: that is what browsers and viewers show, and so what a person believes to be in
    the file. The colours that lie under full transparency were never meant to be seen.

    Args:
        samples: H×W, H×W×1, H×W×3 (RGB) or H×W×4 (RGBA).

    Returns:
        A writable array in C order; the one that was given, if it is that already.
    """
    if samples.ndim == 2 or samples.shape[2] == 1:
        grey = np.ascontiguousarray(to_eight_bits(samples.reshape(samples.shape[:2])))
        return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))
    if samples.shape[2] == 3:
        return np.require(to_eight_bits(samples), requirements=["C", "W"])
    # Alpha has a depth of its own: 12-bit colours may come with 16-bit alpha.
    rgb, alpha = to_eight_bits(samples[..., :3]), to_eight_bits(samples[..., 3])
    if alpha.min() == 255:
        return np.array(rgb, order="C")
    composite = np.empty(rgb.shape, dtype=np.uint8)
    for rows in _strips(rgb):
        share = alpha[rows, :, None].astype(np.uint16)
        composite[rows] = (rgb[rows] * share + _WHITE * (255 - share) + 127) // 255
    return composite


def to_eight_bits(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples of any depth as 8 bits, by one rule for the whole image, so that its colours keep their proportions.

    - Fractions within 0 to 1 become 0 to 255.
    - Whole numbers within 0 to 65535 are taken for a sensor's of 8, 10, 12, 14 or 16 bits, the least of these
      that holds the largest number, and the sensor's white becomes 255. Many cameras and microscopes store
      12 bits in a 16-bit file, which would come out all but black if it were divided by 257.
    - All else (negative or larger numbers, other fractions) is stretched from its least to its largest value.

    What is not a number becomes 0, what is infinite the end of the range.
    """
    if samples.dtype == np.uint8:
        return samples
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(_WHITE)
    low, high = _range(samples)
    if samples.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 65535 and _whole(samples):
        depth = next(depth for depth in (8, 10, 12, 14, 16) if high < 1 << depth)
        low, high = 0.0, float((1 << depth) - 1)
        if samples.dtype.kind == "u":
            table = np.rint(np.arange(1 << depth) * (_WHITE / high)).astype(np.uint8)
            return _by_strips(samples, lambda strip: table[strip])
    scale = _WHITE / ((high - low) or 1.0)

    def scaled(strip: NDArray[Any]) -> NDArray[np.uint8]:
        finite = np.nan_to_num(strip.astype(np.float64), nan=low, posinf=high, neginf=low)
        return np.rint((finite - low) * scale).astype(np.uint8)

    return _by_strips(samples, scaled)


def _displayable(image: Image.Image) -> Image.Image:
    """The image in mode L, RGB or RGBA, as a viewer would show it."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        shown = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
        assert shown is not None  # only of a transform in place
        return shown
    return image.convert("RGB")


def _range(samples: NDArray[Any]) -> tuple[float, float]:
    """The least and the largest finite number; 0 and 0 if there is none."""
    low, high = np.inf, -np.inf
    for rows in _strips(samples):
        strip = samples[rows]
        if samples.dtype.kind == "f":
            strip = strip[np.isfinite(strip)]
        if strip.size:
            low, high = min(low, float(strip.min())), max(high, float(strip.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _whole(samples: NDArray[Any]) -> bool:
    if samples.dtype.kind != "f":
        return True
    finite = (samples[rows][np.isfinite(samples[rows])] for rows in _strips(samples))
    return all(bool((strip == np.rint(strip)).all()) for strip in finite)


def _by_strips(samples: NDArray[Any], convert: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    converted = np.empty(samples.shape, dtype=np.uint8)
    for rows in _strips(samples):
        converted[rows] = convert(samples[rows])
    return converted


def _strips(samples: NDArray[Any]) -> Iterator[slice]:
    """Successive slices of rows."""
    rows = max(1, _STRIP_SAMPLES // max(1, samples[0].size))
    return (slice(top, top + rows) for top in range(0, len(samples), rows))
