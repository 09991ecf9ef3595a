"""What ASPP's branches give: exact where the network says so itself."""

import numpy as np
import pytest
import torch
from explained_models import lively, predictor_of
from torch import nn

from atrous.errors import AtrousError
from atrous.explain import aspp_response, prepare
from atrous.models import MultiScale


def test_v2s_parts_are_the_branches_own_scores_of_the_winning_class(photo) -> None:
    model = lively("deeplabv2_resnet101", aspp_rates="S")
    predictor = predictor_of(model)
    found = aspp_response(predictor, photo)
    assert [branch.name for branch in found.branches] == [f"rate {rate}" for rate in model.rates]
    with torch.inference_mode():
        features = model.backbone(prepare(predictor, photo).tensor).output
        scores = torch.stack([branch(features)[0] for branch in model.aspp])
    winner = scores.sum(0).argmax(0, keepdim=True)
    for branch, own in zip(found.branches, scores, strict=True):
        assert branch.part == pytest.approx(own.gather(0, winner)[0].numpy(), rel=1e-4, abs=1e-4)
    parts = sum(float(branch.part.sum(dtype=np.float64)) for branch in found.branches)
    assert parts == pytest.approx(found.score, rel=1e-4)
    assert (found.labels == predictor(photo).labels).all()


def test_v3s_parts_are_the_whole_score_where_nothing_has_a_bias(photo) -> None:
    model = lively("deeplabv3_mobilenet_v2_050", aspp_rates=(2, 4))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
            module.running_mean.zero_()
    nn.init.zeros_(model.logits.bias)
    found = aspp_response(predictor_of(model), photo)
    assert [branch.name for branch in found.branches] == ["1×1", "rate 2", "rate 4", "image pooling"]
    assert sum(branch.part.sum() for branch in found.branches) == pytest.approx(found.score, rel=1e-4)
    assert sum(branch["share_of_score"] for branch in found.numbers()["branches"]) == pytest.approx(1, rel=1e-4)


def test_a_branch_whose_weights_are_zero_gives_nothing_and_is_not_missed(photo) -> None:
    model = lively("deeplabv3plus_mobilenet_v2_050")
    nn.init.zeros_(model.aspp.atrous[1].pointwise.bn.weight)
    nn.init.zeros_(model.aspp.atrous[1].pointwise.bn.bias)
    silent, *others = sorted(
        aspp_response(predictor_of(model), photo).branches, key=lambda branch: branch.name != "rate 12"
    )
    assert silent.name == "rate 12"
    assert (abs(silent.part).max(), silent.strength.max(), silent.changed) == (0, 0, 0)
    assert all(branch.strength.max() > 0 for branch in others)
    assert max(branch.changed for branch in others) > 0


def test_the_model_is_left_without_hooks(small, photo) -> None:
    before = small(photo).labels
    aspp_response(small, photo)
    assert not any(module._forward_hooks for module in small.model.modules())
    assert (small(photo).labels == before).all()


def test_a_model_of_several_scales_is_explained_at_one(photo) -> None:
    model = lively("deeplabv3_mobilenet_v2_050")
    alone = aspp_response(predictor_of(model), photo)
    several = aspp_response(predictor_of(MultiScale(model, (0.5, 1.0))), photo)
    assert several.score == alone.score
    assert all((a.part == b.part).all() for a, b in zip(several.branches, alone.branches, strict=True))


def test_a_model_without_aspp_is_refused(photo) -> None:
    with pytest.raises(AtrousError, match="deeplabv3_cascade_resnet50 has no ASPP"):
        aspp_response(predictor_of(lively("deeplabv3_cascade_resnet50")), photo)
