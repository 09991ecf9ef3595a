"""The models against the published counts, and what every one of them must bear."""

import json

import numpy as np
import pytest
import torch

from atrous.errors import AtrousError
from atrous.models import create_model

# Batch-norm scale and shift counted, 21 classes; MobileNetV2's 2.11M and 4.52M stand in its paper's table 7.
PARAMETERS = [
    ("deeplabv3_resnet50", {}, 39_048_533),
    ("deeplabv3_resnet101", {}, 58_040_661),
    ("deeplabv3_mobilenet_v2", {}, 2_113_557),
    ("deeplabv3_mobilenet_v2_050", {}, 697_013),
    ("deeplabv3_mobilenet_v2", {"aspp_rates": (6, 12, 18)}, 4_523_541),
    ("deeplabv3_mobilenet_v2", {"aspp_rates": (6, 12, 18), "separable": True}, 2_568_021),
    ("deeplabv3plus_mobilenet_v2", {}, 2_725_573),
    ("deeplabv3plus_resnet50", {}, 40_352_181),
    ("deeplabv3plus_resnet50", {"separable": True}, 26_696_133),
    ("deeplabv3plus_resnet101", {}, 59_344_309),
    ("deeplabv3plus_resnet101", {"separable": True}, 45_688_261),
    ("deeplabv3plus_xception41", {}, 28_108_661),
    ("deeplabv3plus_xception65", {}, 41_055_413),
    ("deeplabv3plus_xception71", {}, 43_477_837),
    ("deeplabv3plus_xception41", {"separable": False}, 41_764_709),
    ("deeplabv3plus_xception65", {"separable": False}, 54_711_461),
    ("deeplabv3plus_xception71", {"separable": False}, 57_133_885),
    ("torchvision_deeplabv3_resnet50", {}, 39_638_869),
    ("torchvision_deeplabv3_resnet50", {"aux": True}, 42_004_074),
    ("torchvision_deeplabv3_resnet101", {}, 58_630_997),
    ("torchvision_deeplabv3_resnet101", {"aux": True}, 60_996_202),
]


# FACTS' backbone counts; MobileNetV3's are torchvision's models' without their classifiers.
BACKBONE_PARAMETERS = [
    ("deeplabv3_xception41", 24_920_560),
    ("deeplabv3_xception65", 37_867_312),
    ("deeplabv3_xception71", 40_289_736),
    ("deeplabv3plus_mobilenet_v3_large", 2_971_952),
    ("deeplabv3plus_mobilenet_v3_small", 927_008),
]


@pytest.mark.parametrize(("name", "expected"), BACKBONE_PARAMETERS)
def test_backbone_parameter_counts(name, expected):
    with torch.device("meta"):
        backbone = create_model(name).backbone
    assert sum(p.numel() for p in backbone.parameters()) == expected


@pytest.mark.parametrize(("name", "options", "expected"), PARAMETERS, ids=lambda v: str(v))
def test_parameter_counts(name, options, expected):
    with torch.device("meta"):
        model = create_model(name, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


SMALL = ("deeplabv3_mobilenet_v2_050", "deeplabv3plus_mobilenet_v2_050", "deeplabv3plus_efficientnet_lite0")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (97, 131), (64, 64), (65, 65)])
def test_logits_have_the_inputs_size(name, size):
    model = create_model(name, num_classes=3).eval()
    x = torch.randn(2, 3, *size)
    with torch.inference_mode():
        logits, coarse = model(x), model.coarse_logits(x)
    stride = 4 if "plus" in name else 16
    assert logits.shape == (2, 3, *size)
    assert coarse.shape == (2, 3, -(-size[0] // stride), -(-size[1] // stride))
    assert logits.isfinite().all()
    # Bilinear with aligned corners: the corners are the coarse map's own.
    torch.testing.assert_close(logits[..., 0, 0], coarse[..., 0, 0])
    if min(size) > 1:
        torch.testing.assert_close(logits[..., -1, -1], coarse[..., -1, -1])


@pytest.mark.parametrize("name", SMALL)
def test_the_output_stride_changes_there_and_back(name):
    model = create_model(name, num_classes=3).eval()
    x = torch.randn(1, 3, 65, 65)
    with torch.inference_mode():
        before = model(x)
        model.set_output_stride(8)
        assert model.output_stride == model.config["output_stride"] == 8
        finer = model(x)
        model.set_output_stride(16)
        after = model(x)
    assert torch.equal(before, after)
    assert not torch.equal(before, finer)


def test_rates_follow_the_output_stride_unless_given():
    """v3: (6, 12, 18) at 16, doubled at 8. smp takes (12, 24, 36) at 16, torchvision at every stride."""
    model = create_model("deeplabv3_resnet50")
    assert model.aspp.rates == (6, 12, 18)
    model.set_output_stride(8)
    assert model.aspp.rates == (12, 24, 36)
    model.set_output_stride(32)
    assert model.aspp.rates == (3, 6, 9)
    given = create_model("deeplabv3_resnet50", aspp_rates=(2, 5), output_stride=8)
    assert given.aspp.rates == (2, 5)
    given.set_output_stride(16)
    assert given.aspp.rates == (2, 5)


def test_config_makes_the_same_model_again():
    model = create_model("deeplabv3_resnet50", 5, multi_grid=(1, 2, 1), aspp_rates=(4, 8), image_pooling=False)
    model.set_output_stride(8)
    again = create_model(**model.config)
    assert again.output_stride == 8
    assert [u.conv2.rate for u in again.backbone.layer4] == [u.conv2.rate for u in model.backbone.layer4]
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_resnet_has_torchvisions_names():
    names = create_model("deeplabv3_resnet50").backbone.state_dict()
    assert "layer4.0.downsample.1.running_var" in names
    assert names["conv1.weight"].shape == (64, 3, 7, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "deeplabv9"}, "no architecture is called 'deeplabv9'"),
        ({"name": "deeplabv3_resnet50", "colour": "red"}, "no option 'colour'; it takes aspp_rates"),
        ({"name": "deeplabv3_xception41", "multi_grid": (1, 2, 4)}, "no option 'multi_grid'"),
        ({"name": "deeplabv3_mobilenet_v2", "num_classes": 0}, "num_classes=0"),
        ({"name": "deeplabv3_mobilenet_v2", "num_classes": 2.5}, "num_classes=2.5 is no whole number"),
        ({"name": "deeplabv3_mobilenet_v2", "num_classes": 300}, "num_classes=300"),
        ({"name": "deeplabv3_mobilenet_v2", "output_stride": 5}, "output_stride=5"),
    ],
)
def test_misuse_is_named_in_one_line(arguments, message):
    with pytest.raises(AtrousError) as error:
        create_model(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numpys_numbers_are_numbers(tmp_path):
    """As `mask.max() + 1` gives them."""
    model = create_model("deeplabv3_mobilenet_v2_050", np.int64(5), np.int64(16), aspp_rates=tuple(np.array([2, 4])))
    model.set_output_stride(np.int64(8))
    same = create_model("deeplabv3_mobilenet_v2_050", 5, 8, aspp_rates=(2, 4))
    assert json.loads(json.dumps(model.config)) == same.config
