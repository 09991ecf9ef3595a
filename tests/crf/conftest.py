"""A picture with unaries, and loops that run on more bands and threads than so small a one would get."""

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import torch

from peers import import_peer


@pytest.fixture(autouse=True)
def bands_and_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("atrous.ops.permutohedral_cpu._BAND", 200)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_scene():
    def make(labels: int, height: int, width: int, seed: int = 0):
        """Energies K×H×W and uint8 H×W×3: regions of one colour and label, with noise in both and some labels wrong."""
        random = np.random.default_rng([seed, labels, height, width])
        rows, columns = height // 12 + 1, width // 12 + 1
        truth = np.kron(random.integers(0, labels, (rows, columns)), np.ones((12, 12), int))[:height, :width]
        colours = random.integers(20, 230, (labels, 3))[truth]
        image = (colours + random.normal(0, 3, colours.shape)).clip(0, 255).astype(np.uint8)
        said = np.where(random.random(truth.shape) < 0.2, random.integers(0, labels, truth.shape), truth)
        logits = random.normal(0, 1, (labels, height, width)) + 2.5 * (np.arange(labels)[:, None, None] == said)
        probabilities = np.exp(logits) / np.exp(logits).sum(0)
        return (-np.log(probabilities)).astype(np.float32), image

    return make


@pytest.fixture(scope="session")
def densecrf() -> ModuleType:
    try:
        import_peer("pydensecrf")
        return import_peer("pydensecrf.densecrf")
    except ImportError as error:
        pytest.skip(f"no pydensecrf to compare with ({error})")
