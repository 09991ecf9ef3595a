"""A small predictor, and a data set that it is right about."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.inference import Predictor
from atrous.models import create_model
from atrous.weights import ModelCard
from networks import randomise

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """Random, but of no mind to say one class everywhere."""
    torch.manual_seed(0)
    model = randomise(create_model("deeplabv3_mobilenet_v2_050", num_classes=3)).float()
    model.logits.weight.data *= 4
    with torch.inference_mode():
        noise = torch.nn.functional.interpolate(torch.randn(4, 3, 5, 6), (49, 65), mode="bicubic")
        means = model.coarse_logits(noise).mean((0, 2, 3))
    model.logits.bias.data -= means
    return Predictor(model, ModelCard(CLASSES, ((0, 0, 0), (200, 0, 0), (0, 0, 200))), device="cpu")


@pytest.fixture
def data(tmp_path, predictor) -> Path:
    """Five photos of two sizes whose masks are what the predictor says, with a band of void on top."""
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").mkdir(parents=True)
    classes = {"classes": CLASSES, "palette": predictor.card.palette}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    random = np.random.default_rng(0)
    for index, (height, width) in enumerate([(40, 50), (33, 70), (40, 50), (40, 50), (33, 70)]):
        blotches = random.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
        photo = np.asarray(Image.fromarray(blotches).resize((width, height)))
        Image.fromarray(photo).save(tmp_path / "images" / "val" / f"{index}.png")
        mask = predictor(photo).labels.copy()
        mask[:3] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / "val" / f"{index}.png")
    return tmp_path


@pytest.fixture
def wrong(data) -> Path:
    """The same with other masks, of all classes and more void: the predictor is right about some pixels."""
    random = np.random.default_rng(1)
    for path in sorted((data / "masks" / "val").iterdir()):
        right = np.array(Image.open(path))
        blotches = random.integers(0, 4, (right.shape[0] // 8 + 1, right.shape[1] // 8 + 1), dtype=np.uint8)
        other = np.kron(blotches, np.ones((8, 8), np.uint8))[: right.shape[0], : right.shape[1]]
        other[other == 3] = 255
        keep = random.random(right.shape) < 0.5
        Image.fromarray(np.where(keep, right, other)).save(path)
    return data
