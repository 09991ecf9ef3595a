"""What "precision: auto" is on a device."""

import pytest
import torch

from atrous.training import load_recipe, precision
from atrous.training.precision import lightning_precision, precision_on

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


def recipe(asked):
    return load_recipe("street", [f"precision={asked}"])


@pytest.mark.parametrize(
    ("place", "bf16_cpu", "bf16_gpu", "expected"),
    [
        (CPU, True, False, "bf16"),
        (CPU, False, True, "fp32"),
        (CUDA, False, True, "bf16"),
        (CUDA, True, False, "fp32"),
        (MPS, True, True, "fp32"),
    ],
)
def test_auto_takes_what_the_device_is_quicker_in(monkeypatch, place, bf16_cpu, bf16_gpu, expected):
    monkeypatch.setattr(precision, "convolves_sooner_in_bfloat16", lambda: bf16_cpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16_gpu)
    assert precision_on(place, recipe("auto")) == expected
    assert precision_on(place, recipe("bf16")) == "bf16"
    assert precision_on(place, recipe("fp32")) == "fp32"
    assert lightning_precision(place, recipe("auto"), "auto") == {"bf16": "bf16-mixed", "fp32": "32-true"}[expected]


def test_the_bundled_models_recipe_is_trained_in_what_is_quicker():
    assert load_recipe("street").precision == "auto"
