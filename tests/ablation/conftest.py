"""A tiny data set, and a recipe that learns it in seconds."""

import json

import numpy as np
import pytest
from PIL import Image

from atrous.training import Recipe


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Bright ground under a dark sky: four photos to train on, two to judge by."""
    root = tmp_path_factory.mktemp("data")
    (root / "classes.json").write_text(json.dumps({"classes": ["sky", "ground"], "palette": [[0, 0, 9], [9, 9, 0]]}))
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((40, 48), np.uint8)
            mask[rng.integers(10, 30) :] = 1
            noise = rng.integers(0, 60, (40, 48, 3))
            photo = (mask[..., None] * 150 + noise).astype(np.uint8)
            Image.fromarray(photo).save(root / "images" / split / f"{index}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def recipe():
    values = {
        "model": {"name": "deeplabv3_mobilenet_v2_050", "batch_norm_momentum": 0.5},
        "augment": {"crop": (33, 33), "scale": (0.8, 1.2)},
        "optimizer": {"name": "adamw", "lr": 3e-3},
        "schedule": {"epochs": 2},
        "batch_size": 2,
        "seed": 5,
    }
    return Recipe.model_validate(values)
