"""Tiny data sets laid out as the published ones are, from noise."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.uint8]

SIZE = (6, 8)  # height, width of every photo


def photo(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    """Noise, without loss if the suffix allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def sky_over_ground(root: Path, photos: Mapping[str, int]) -> Path:
    """Bright ground under a dark sky, 40×48 pixels with some void: what a small network learns in seconds.

    Args:
        photos: how many each split holds.
    """
    (root / "classes.json").write_text(json.dumps({"classes": ["sky", "ground"], "palette": [[0, 0, 9], [9, 9, 0]]}))
    rng = np.random.default_rng(0)
    for split, count in photos.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            labels = np.zeros((40, 48), np.uint8)
            labels[rng.integers(10, 30) :] = 1
            noise = rng.integers(0, 60, (40, 48, 3))
            pixels = (labels[..., None] * 150 + noise).astype(np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{index}.png")
            labels[:2, :5] = 255
            Image.fromarray(labels).save(root / "masks" / split / f"{index}.png")
    return root


def mask(path: Path, values: object, palette: bool = False) -> Path:
    """A mask of indices (H×W) or colours (H×W×3); a single row or value is repeated to the photos' size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(values, np.uint8)
    array = np.broadcast_to(array, SIZE if array.ndim < 2 else array.shape)
    image = Image.fromarray(np.ascontiguousarray(array), "P" if palette else None)
    if palette:
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768, dtype=np.uint8).tolist())
    image.save(path)
    return path


def stripes(*labels: int) -> Array:
    """A label map with an equal stripe of columns for each label."""
    return np.broadcast_to(np.repeat(np.array(labels, np.uint8), SIZE[1] // len(labels)), SIZE)


def painted(labels: Array, colours: Mapping[int, tuple[int, int, int]]) -> Array:
    """A label map as colours."""
    rgb = np.zeros((*labels.shape, 3), np.uint8)
    for label, colour in colours.items():
        rgb[labels == label] = colour
    return rgb


def folder(root: Path, splits: Mapping[str, int], classes: object = ("a", "b", "c")) -> Path:
    """`images/<split>/`, `masks/<split>/`, `classes.json`; mask i of a split is 0 at its left, i % 3 at its right."""
    seed = 0
    for split, count in splits.items():
        for index in range(count):
            photo(root / "images" / split / f"{index}.png", seed)
            mask(root / "masks" / split / f"{index}.png", stripes(0, index % 3))
            seed += 1
    if classes:
        root.joinpath("classes.json").write_text(json.dumps({"classes": classes}))
    return root
