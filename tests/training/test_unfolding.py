"""Batch norm that a file has folded: taken out again, so that training begins from what was learnt."""

import copy

import pytest
import torch
from torch import nn

from atrous.layers import BatchNorm2d
from atrous.models import create_model
from atrous.training import Recipe, train, unfold_batch_norm
from atrous.weights import ModelCard, load_model, save_model
from data_sets import sky_over_ground

NAME = "deeplabv3_mobilenet_v2_050"


def noise(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 65, 65, generator=torch.Generator().manual_seed(3))


def norms(network: nn.Module) -> list[BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, BatchNorm2d)]


def folded():
    """As a model from a TFLite file: identities after convolutions with a bias; the head is new."""
    torch.manual_seed(0)
    model = create_model(NAME, 3)
    for norm in norms(model.backbone):
        nn.init.normal_(norm.bias, std=0.3)
        norm.running_var.fill_(1 - norm.eps)
    return model


def test_what_the_model_computes_stays_and_training_computes_it_too():
    model, images = folded(), noise(16)
    with torch.no_grad():
        lost = copy.deepcopy(model.backbone).train()(images).output
        before = model.backbone.eval()(images).output
        assert unfold_batch_norm(model, noise(40)) == len(norms(model.backbone))
        after, kept = (model.backbone.train(mode)(images).output for mode in (False, True))
    assert (after - before).norm() < 1e-4 * before.norm()
    alike = [torch.corrcoef(torch.stack([before.ravel(), other.ravel()]))[0, 1] for other in (lost, kept)]
    assert alike[0] < 0.6
    assert alike[1] > 0.9
    assert unfold_batch_norm(model, noise(40)) == 0


def test_new_and_frozen_batch_norm_stays_as_it_is():
    model = folded().train()
    for norm in norms(model.backbone)[:5]:
        norm.freeze()
    still = {name: tensor.clone() for name, tensor in model.aspp.state_dict().items()}
    count = len(norms(model.backbone))
    assert unfold_batch_norm(model, noise(3)) == count - 5
    assert all(torch.equal(tensor, still[name]) for name, tensor in model.aspp.state_dict().items())
    assert all((norm.weight == 1).all() for norm in norms(model.backbone)[:5])
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_run_that_starts_from_such_a_backbone(tmp_path, dtype):
    (tmp_path / "data").mkdir()
    data = sky_over_ground(tmp_path / "data", {"train": 3, "val": 1})
    card = ModelCard(("a", "b", "c"), ((0, 0, 0), (9, 9, 9), (5, 5, 5)))
    save_model(folded(), card, tmp_path / "former", dtype=dtype)
    recipe = Recipe.model_validate(
        {
            "model": {"name": NAME, "pretrained_backbone": str(tmp_path / "former")},
            "augment": {"crop": (33, 33)},
            "optimizer": {"lr": 1e-9},
            "schedule": {"steps": 1},
            "batch_size": 3,
        }
    )
    train(recipe, data, tmp_path / "run", workers=0, device="cpu")
    found = norms(load_model(tmp_path / "run")[0].backbone)
    assert all(not (norm.weight == 1).all() for norm in found)
