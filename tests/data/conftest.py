"""The two ways in which files are decoded."""

import pytest

from atrous.data import direct, pixels


@pytest.fixture(params=[False, True], ids=["pillow", "direct"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Runs a test as for ordinary photos, and with every photo taken for a very large one."""
    if request.param:
        monkeypatch.setattr(direct, "LARGE_PIXELS", 1)
        monkeypatch.setattr(direct, "_ROWS", 7)
        monkeypatch.setattr(pixels, "_STRIP_SAMPLES", 1000)
    return bool(request.param)
