"""What tests of several rooms share."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from peers import import_peer

ROOT = Path(__file__).resolve().parents[1]

# Several processes run the tests: each gets its share of the cores, or they would wait for one another.
torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with CamVid and the photos, which a bare clone does not have."""
    folder = Path(os.environ.get("ATROUS_TEST_DATA") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set ATROUS_TEST_DATA to the folder that has it")
    return folder


def peer(name: str) -> ModuleType:
    """A project to compare with, or a skip that says what is missing."""
    try:
        return import_peer(name)
    except ImportError as error:
        pytest.skip(f"no {name} to compare with ({error})")


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    return peer("torchvision")


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    return peer("timm")


@pytest.fixture(scope="session")
def smp() -> ModuleType:
    return peer("segmentation_models_pytorch")


@pytest.fixture(scope="session")
def transformers() -> ModuleType:
    return peer("transformers")


@pytest.fixture(scope="session")
def litert() -> ModuleType:
    """LiteRT, which runs TFLite files, with the modules `interpreter` and `schema_py_generated`."""
    for name in ("flatbuffers", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"):
        peer(name)
    return sys.modules["ai_edge_litert"]
