"""The kernels' tests run on more threads than one, whatever the others have."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr("atrous.ops.upsample_cpu._PIXELS_FOR_THREADS", 0)
    monkeypatch.setattr("atrous.ops.upsample._LOOP_PAYS", 0)
    yield
    torch.set_num_threads(before)
