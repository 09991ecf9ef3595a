"""v2 against its counts, and against its released layers written out."""

import pytest
import torch
import torch.nn.functional as F
from caffe_vgg import LARGE_FOV, conv, vgg

from atrous.errors import AtrousError
from atrous.models import create_model
from networks import randomise

PARAMETERS = [
    ("deeplabv2_vgg16_aspp", {}, 37_877_652),
    ("deeplabv2_vgg16_aspp", {"aspp_rates": "S"}, 37_877_652),
    ("deeplabv2_resnet101", {}, 44_048_532),
    ("deeplabv2_resnet101", {"num_classes": 11}, 43_311_212),
    ("deeplabv2_resnet101", {"num_classes": 19}, 43_901_068),
    ("deeplabv2_resnet101_largefov", {}, 42_887_253),
]


@pytest.mark.parametrize(("name", "options", "expected"), PARAMETERS, ids=str)
def test_parameter_counts(name, options, expected):
    with torch.device("meta"):
        model = create_model(name, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("name", ["deeplabv2_vgg16_aspp", "deeplabv2_resnet101"])
def test_map_sizes_of_the_papers_crop(name):
    """321 gives 41; Caffe rounds up, so that 512 has a position at its end and gives 65, as 513 does."""
    with torch.device("meta"):
        model = create_model(name)
        for size, expected in {321: 41, 513: 65, 512: 65}.items():
            assert model.coarse_logits(torch.empty(1, 3, size, 321)).shape == (1, 21, expected, 41)


def assert_equal(ours, theirs):
    assert (ours - theirs).norm() <= 1e-9 * theirs.norm()
    assert theirs.std() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("size", "rates"), [("S", (2, 4, 8, 12)), ("L", (6, 12, 18, 24))])
def test_vgg_aspp_is_its_released_layers(size, rates):
    """3×3 pools and no pool5a; four branches of fc6 3×3×1024, fc7 1×1×1024 and scores, which are summed."""
    model = randomise(create_model("deeplabv2_vgg16_aspp", 5, aspp_rates=size))
    state = model.state_dict()
    image = torch.randn(1, 3, 33, 40, dtype=torch.float64)
    features = vgg(image, state, LARGE_FOV)[-1]
    scores = 0
    for index, rate in enumerate(rates):
        x = F.relu(conv(features, state, f"aspp.{index}.fc6", padding=rate, dilation=rate))
        x = F.relu(conv(x, state, f"aspp.{index}.fc7"))
        scores = scores + conv(x, state, f"aspp.{index}.logits")
    with torch.inference_mode():
        assert_equal(model.coarse_logits(image), scores)


def resnet(x, state):
    """Caffe's ResNet-101 at output stride 8: blocks 3 and 4 without stride, rates 2 and 4 from their first unit."""

    def norm(x, name):
        parts = (state[f"backbone.{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    def weight(name):
        return state[f"backbone.{name}.weight"]

    x = F.relu(norm(F.conv2d(x, weight("conv1"), stride=2, padding=3), "bn1"))
    x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    for block, units, stride, rate in ((1, 3, 1, 1), (2, 4, 2, 1), (3, 23, 1, 2), (4, 3, 1, 4)):
        for unit in range(units):
            at, step = f"layer{block}.{unit}", stride if unit == 0 else 1
            y = F.relu(norm(F.conv2d(x, weight(f"{at}.conv1"), stride=step), f"{at}.bn1"))
            y = F.relu(norm(F.conv2d(y, weight(f"{at}.conv2"), padding=rate, dilation=rate), f"{at}.bn2"))
            y = norm(F.conv2d(y, weight(f"{at}.conv3")), f"{at}.bn3")
            if unit == 0:
                x = norm(F.conv2d(x, weight(f"{at}.downsample.0"), stride=step), f"{at}.downsample.1")
            x = F.relu(x + y)
    return x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rates"), [("deeplabv2_resnet101", (6, 12, 18, 24)), ("deeplabv2_resnet101_largefov", (12,))]
)
def test_resnet_is_its_released_layers(name, rates):
    """Stride in the first 1×1, pooling rounded up, branches of one 3×3 convolution with a bias, summed."""
    model = randomise(create_model(name, 5))
    state = model.state_dict()
    image = torch.randn(1, 3, 36, 49, dtype=torch.float64)
    features = resnet(image, state)
    assert features.shape[-2:] == (5, 7)
    scores = sum(
        conv(features, state, f"aspp.{index}", padding=rate, dilation=rate) for index, rate in enumerate(rates)
    )
    with torch.inference_mode():
        assert_equal(model.coarse_logits(image), scores)


def test_branches_start_from_a_normal_of_a_hundredth():
    torch.manual_seed(0)
    branch = create_model("deeplabv2_resnet101_largefov").aspp[0]
    assert branch.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert branch.bias.abs().max() == 0


def test_the_papers_rates_follow_and_given_ones_stay():
    with torch.device("meta"):
        for name in ("deeplabv2_resnet101", "deeplabv2_vgg16_aspp"):
            model = create_model(name)
            assert (model.output_stride, model.rates) == (8, (6, 12, 18, 24))
            model.set_output_stride(16)
            assert model.rates == (3, 6, 9, 12)
            assert create_model(name, aspp_rates="S", output_stride=16).rates == (1, 2, 4, 6)
            given = create_model(name, aspp_rates=[1, 9])
            given.set_output_stride(16)
            assert given.rates == (1, 9)
            assert create_model(**given.config).rates == (1, 9)


def test_the_backbone_is_caffes():
    with torch.device("meta"):
        model = create_model("deeplabv2_resnet101")
    assert [unit.conv2.rate for unit in model.backbone.layer3] == [2] * 23
    assert [unit.conv2.rate for unit in model.backbone.layer4] == [4] * 3
    assert model.backbone.layer2[0].conv1.stride == (2, 2)
    assert model.backbone.layer2[0].conv2.stride == (1, 1)
    assert model.backbone.maxpool.ceil_mode


@pytest.mark.parametrize("rates", ["XL", [], [6, 0]])
def test_impossible_rates_are_named(rates):
    with torch.device("meta"), pytest.raises(AtrousError, match="neither S, L nor LargeFOV") as error:
        create_model("deeplabv2_resnet101", aspp_rates=rates)
    assert repr(rates) in str(error.value)
