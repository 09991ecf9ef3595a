"""What tests of several rooms share."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with CamVid and the photos, which a bare clone does not have."""
    folder = Path(os.environ.get("ATROUS_TEST_DATA") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set ATROUS_TEST_DATA to the folder that has it")
    return folder


@pytest.fixture(scope="session")
def torchvision() -> ModuleType:
    """torchvision beside any torch: its operators, which ask for the very build it was made for, are left out."""
    register = torch.library.register_fake

    def leave_out(name: object, *args: Any, **options: Any) -> Any:
        if isinstance(name, str) and name.startswith("torchvision::"):
            return lambda function: function
        return register(name, *args, **options)  # type: ignore[arg-type]

    sys.path.append(str(Path(sys.prefix) / "peers"))  # where the Makefile puts it
    torch.library.register_fake = leave_out  # type: ignore[assignment]
    try:
        return pytest.importorskip("torchvision", exc_type=ImportError)
    finally:
        torch.library.register_fake = register


@pytest.fixture(scope="session")
def timm(torchvision: ModuleType) -> ModuleType:
    """timm, which imports torchvision."""
    return pytest.importorskip("timm", exc_type=ImportError)


@pytest.fixture(scope="session")
def litert() -> ModuleType:
    """LiteRT, which runs TFLite files, with the modules `interpreter` and `schema_py_generated`."""
    sys.path.append(str(Path(sys.prefix) / "peers"))  # where the Makefile puts it
    for name in ("flatbuffers", "ai_edge_litert.interpreter", "ai_edge_litert.schema_py_generated"):
        pytest.importorskip(name, exc_type=ImportError)
    return sys.modules["ai_edge_litert"]


@pytest.fixture(scope="session")
def smp(timm: ModuleType) -> ModuleType:
    """segmentation_models.pytorch, which imports both."""
    return pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)


@pytest.fixture(scope="session")
def transformers(torchvision: ModuleType) -> ModuleType:
    """transformers, which imports torchvision."""
    return pytest.importorskip("transformers", exc_type=ImportError)
