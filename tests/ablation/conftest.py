"""A tiny data set, and a recipe that learns it in seconds."""

import pytest

from atrous.training import Recipe
from data_sets import sky_over_ground


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Four photos to train on, two to judge by."""
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 4, "val": 2})


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
