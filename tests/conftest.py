"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with CamVid and the photos, which a bare clone does not have."""
    folder = Path(os.environ.get("ATROUS_TEST_DATA") or ROOT.parent / "shared")
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set ATROUS_TEST_DATA to the folder that has it")
    return folder
