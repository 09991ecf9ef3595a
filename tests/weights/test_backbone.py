"""A backbone's weights from another model, and what does not fit."""

import pytest
import torch

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import SYMMETRIC, ModelCard, load_backbone, load_model, save_model


def test_the_bundled_models_backbone_starts_another_model():
    model = create_model("deeplabv3_efficientnet_lite0", num_classes=4)
    assert load_backbone(model.backbone, "street") == SYMMETRIC
    theirs = load_model("street")[0].backbone.state_dict()
    assert all(tensor.equal(theirs[name]) for name, tensor in model.backbone.state_dict().items())


def test_the_normalisation_comes_along(tmp_path):
    card = ModelCard(("a", "b"), ((0, 0, 0), (9, 9, 9)), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    save_model(create_model("deeplabv3_mobilenet_v2_050", 2), card, tmp_path)
    backbone = create_model("deeplabv3plus_mobilenet_v2_050", 7).backbone
    assert load_backbone(backbone, tmp_path) == (card.mean, card.std)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deeplabv3_efficientnet_lite1", {}, "whose backbone is another"),
        ("deeplabv3_mobilenet_v2", {}, "whose backbone is another"),
        ("deeplabv3_mobilenet_v2", {"variant": "torchvision"}, "make the model with variant='paper'"),
    ],
)
def test_another_backbone_or_form_is_refused_and_left_alone(name, options, message):
    backbone = create_model(name, **options).backbone
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as error:
        load_backbone(backbone, "street")
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in backbone.state_dict().items())
