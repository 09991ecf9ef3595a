"""A small model, and photos as files and in a bucket that lives in this process."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from atrous.inference import Predictor
from atrous.models import create_model
from atrous.weights import ModelCard


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(5)
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=4)
    nn.init.normal_(model.logits.weight, std=5.0)  # random logits hardly differ; these do
    card = ModelCard(("road", "sky", "tree", "car"), ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255)))
    return Predictor(model, card, "cpu")


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """A PNG, another for each number."""

    def make(seed: int) -> bytes:
        blotches = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(blotches).resize((60, 40)).save(content, "PNG")
        return content.getvalue()

    return make


@pytest.fixture
def bucket(picture):
    """memory://photos/in with two photos, one broken file, a text and a folder."""
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    files = {"a 1%20.png": picture(1), "b.jpg": picture(2), "cut.png": picture(3)[:99], "x.txt": b"", "more/c.png": b""}
    for name, content in files.items():
        store.pipe_file(f"/photos/in/{name}", content)
    yield "memory://photos/in"
    store.store.clear()
