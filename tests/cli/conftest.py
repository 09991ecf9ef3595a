"""A small saved model, photos, and the command as a person runs it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner, Result

from atrous.cli.main import app
from atrous.models import create_model
from atrous.weights import ModelCard, save_model

CLASSES = ("road", "sky", "tree", "car")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(5)
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=4)
    nn.init.normal_(model.logits.weight, std=5.0)  # random logits hardly differ; these do
    card = ModelCard(CLASSES, ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))
    return save_model(model, card, tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def photos(tmp_path) -> Path:
    """A folder with three photos: a.png 40×60, b.jpg 33×33, c.png 20×90 (height × width)."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(1)
    for name, (height, width) in {"a.png": (40, 60), "b.jpg": (33, 33), "c.png": (20, 90)}.items():
        blotches = random.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        Image.fromarray(blotches).resize((width, height)).save(folder / name)
    return folder


@pytest.fixture
def atrous(model_folder) -> Callable[..., Result]:
    """Runs a command in this process; `predict` with the small model unless another is named."""

    def run(command: str, *args: object) -> Result:
        given = [command, *map(str, args)]
        if command == "predict" and "--model" not in given:
            given += ["--model", str(model_folder)]
        return CliRunner().invoke(app, given)

    return run


@pytest.fixture
def shell() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command as a process of its own."""

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        code = "from atrous.cli.main import main; main()"
        command = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run
