"""A labelled folder whose pixels can be counted by hand."""

import json
import signal

import numpy as np
import pytest
from PIL import Image

from tiny_network import forget_tiny, register_tiny


@pytest.fixture(autouse=True)
def _no_handler():
    """SIGTERM as in a fresh program: a library that another test of this process ran may have left a handler."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


@pytest.fixture
def labelled_folder(tmp_path):
    """Two training photos of 6×6 pixels, each two thirds sky and one third ground."""
    (tmp_path / "classes.json").write_text(
        json.dumps({"classes": ["sky", "ground"], "palette": [[0, 0, 9], [9, 9, 0]]})
    )
    mask = np.zeros((6, 6), np.uint8)
    mask[4:] = 1
    for kind, picture in (("images", np.repeat(mask[..., None] * 99, 3, axis=2)), ("masks", mask)):
        (tmp_path / kind / "train").mkdir(parents=True)
        for index in range(2):
            Image.fromarray(picture).save(tmp_path / kind / "train" / f"{index}.png")
    return tmp_path


@pytest.fixture
def tiny():
    """The tiny network's name is known for the length of a test."""
    register_tiny()
    yield
    forget_tiny()
