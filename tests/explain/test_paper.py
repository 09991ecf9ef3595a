"""The walk: its numbers are the architecture's, its maps the network's, and random weights are said to be random."""

import re

import numpy as np
import pytest
import torch

from atrous.errors import AtrousError
from atrous.explain import explain_paper, open_predictor, paper_page
from atrous.explain.paper import _coloured
from atrous.models import create_model, describe
from atrous.weights import save_model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("paper", "model", "strides", "rates"),
    [
        ("v1", "deeplabv1_vgg16_largefov", [2, 4, 8, 8, 8, 8, 8, 8], {"Block 5": (2,), "fc6": (12,)}),
        ("v2", "deeplabv2_vgg16_aspp", [2, 4, 8, 8, 8, 8, 8, 8, 8, 8], {"Block 5": (2,), "ASPP: rate 24": (24,)}),
        ("v3", "deeplabv3_resnet50", [4, 8, 16] + [16] * 9, {"Block 4": (2, 4, 8), "ASPP: rate 18": (18,)}),
        ("v3plus", "deeplabv3plus_mobilenet_v2_050", [2, 2, 4, 8] + [16] * 8 + [4] * 4, {"Blocks 13": (1, 2)}),
    ],
)
def test_the_stages_are_the_whole_model_in_its_order(photo, paper, model, strides, rates) -> None:
    walk = explain_paper(paper, photo, model)
    assert not walk.trained
    assert [stage.stride for stage in walk.stages] == strides
    for title, expected in rates.items():
        [stage] = [stage for stage in walk.stages if stage.title.startswith(title)]
        assert stage.rates == expected
    description = describe(create_model(model), 513)
    assert (walk.parameters, walk.multiply_adds) == (description.parameters, description.multiply_adds)
    # Every convolution stands in exactly one stage.
    assert sum(stage.parameters for stage in walk.stages) == sum(layer.parameters for layer in description.layers)
    if paper == "v1":
        page = paper_page(walk).html()
        assert "20,505,429" in page
        assert "20.5M" in page
    for stage in walk.stages:
        assert stage.strength.shape == stage.examples.shape[1:] == stage.size
        assert len(stage.examples) == len(stage.chosen) == 3


def test_the_maps_are_the_networks_own(small, photo, tmp_path) -> None:
    save_model(small.model, small.card, tmp_path / "model")
    walk = explain_paper("v3plus", photo, tmp_path / "model")
    assert walk.trained
    assert (walk.labels == small(photo).labels).all()
    stages = {stage.title: stage for stage in walk.stages}
    with torch.inference_mode():
        padded = small._network.pad(small._network.normalise([photo], photo.shape[:2]))
        features = small.model.backbone(padded)
        reduced = small.model.decoder.low_level(features.low_level)[0]
        logits = small.model.coarse_logits(padded)
    low_level = stages["Decoder: low-level features"]
    assert low_level.strength == pytest.approx(reduced.square().mean(0).sqrt().numpy(), abs=1e-5)
    assert low_level.examples == pytest.approx(reduced[list(low_level.chosen)].numpy(), abs=1e-5)
    assert walk.confidence == pytest.approx(logits.softmax(1).amax(1)[0].numpy(), abs=1e-4)


@pytest.mark.slow
def test_the_page_says_what_is_random_and_needs_nothing_from_elsewhere(small, photo, tmp_path) -> None:
    random = paper_page(explain_paper("v3plus", photo, "deeplabv3plus_mobilenet_v2_050")).html()
    assert "weights are RANDOM" in random
    save_model(small.model, small.card, tmp_path / "model")
    trained = paper_page(explain_paper("v3plus", photo, tmp_path / "model")).html()
    assert "RANDOM" not in trained
    for page in (random, trained):
        assert not re.search(r'(src|href)="(?!data:)', page)
        assert page.count("<h2>") == 16 + 2  # the stages, the numbers and the labels
    # The labels of an untrained network are not shown.
    assert trained.count("<img") == random.count("<img") + 2


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(7)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    first, trained = open_predictor("deeplabv3_mobilenet_v2_050")
    assert not trained
    assert torch.equal(torch.rand(1), drawn)
    second, _ = open_predictor("deeplabv3_mobilenet_v2_050")
    assert torch.equal(first.model.logits.weight, second.model.logits.weight)


def test_a_model_of_another_paper_is_refused(photo) -> None:
    with pytest.raises(AtrousError, match=r"street is a model of v3\+, .*, not of v3"):
        explain_paper("v3", photo, "street")
    with pytest.raises(AtrousError, match="no paper 'v4': give one of v1, v2, v3, v3plus"):
        explain_paper("v4", photo)


def test_a_map_is_shown_where_it_is_the_photos(small, photo, tmp_path) -> None:
    """Padding has no place beside the photo, and its values no part in the colours."""
    save_model(small.model, small.card, tmp_path / "model")
    walk = explain_paper("v3plus", photo, tmp_path / "model")
    (height, width), (padded_height, padded_width) = walk.picture.shape[:2], walk.padded
    assert (padded_height, padded_width) != (height, width)
    h, w = walk.confidence.shape
    columns = np.linspace(0, padded_width - 1, w, dtype=np.float32)
    ramp = np.where(columns < width, columns, 1e6)[None].repeat(h, 0)
    shown = _coloured(ramp, walk)
    assert shown.shape[1] / shown.shape[0] == pytest.approx(width / height, rel=0.02)
    assert len(np.unique(shown[0], axis=0)) > 0.8 * w * width / padded_width
    assert (
        f"upsampled bilinearly to {padded_height}×{padded_width}, of which {height}×{width}" in paper_page(walk).html()
    )
