"""Output strides: the plan, and the same features on a finer grid."""

import pytest
import torch
from torch import nn

from atrous.backbones import BACKBONES, plan_strides
from atrous.backbones.inverted_residual import SqueezeExcite
from atrous.backbones.resnet import ResNet
from atrous.errors import AtrousError
from networks import randomise


def randomise_but_gates(model):
    """Squeeze-and-excitation's mean over the map depends on how finely that is sampled; the rest must not."""
    randomise(model)
    for module in model.modules():
        if isinstance(module, SqueezeExcite):
            nn.init.zeros_(module.fc2.weight)
    return model


def test_plan_of_a_resnet():
    """Strides 8, 16, 32 in three units: at output stride 8 the last two are taken out, rates double behind them."""
    strides = [1, 2, 1, 2, 1, 2, 1]
    assert [s.stride for s in plan_strides(strides, 8, 4)] == [1, 2, 1, 1, 1, 1, 1]
    assert [s.rate_before for s in plan_strides(strides, 8, 4)] == [1, 1, 1, 1, 2, 2, 4]
    assert [s.rate_after for s in plan_strides(strides, 8, 4)] == [1, 1, 1, 2, 2, 4, 4]
    assert [s.rate_before for s in plan_strides(strides, 32, 4)] == [1] * 7


# VGG's released pool5 is no atrous one: see test_vgg.py.
NEEDS = {"vgg16": {"atrous_pooling": True}}
VARIANTS = [(name, NEEDS.get(name, {})) for name in BACKBONES] + [
    ("resnet50", {"stride_placement": "first_3x3"}),
    ("resnet50", {"stride_placement": "first_1x1", "ceil_mode": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda v: v if isinstance(v, str) else str(v or ""))
def test_atrous_consistency(name, options):
    """The same weights at output stride 8 and 16, subsampled, give what they give at 32 (in float64)."""
    model = randomise_but_gates(BACKBONES[name](**options))
    x = torch.randn(1, 3, 33, 65, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    outputs = {}
    with torch.inference_mode():
        for output_stride in (8, 16, 32):
            model.set_output_stride(output_stride)
            outputs[output_stride] = model(x).output
    exact = outputs[32]
    assert exact.shape[-2:] == (2, 3)
    for output_stride, step in ((16, 2), (8, 4)):
        deviation = (outputs[output_stride][..., ::step, ::step] - exact).norm() / exact.norm()
        assert deviation < 1e-9


def rates(backbone: ResNet, layer: str) -> list[int]:
    return [unit.conv2.rate for unit in getattr(backbone, layer)]


@pytest.mark.parametrize("placement", ["last_3x3", "first_1x1"])
def test_multi_grid_is_the_blocks_rate_times_the_unit_rates(placement):
    """v3, section 3.2.1: multi-grid (1, 2, 4) at output stride 16 is (2, 4, 8); a peer makes it (1, 2, 4)."""
    backbone = BACKBONES["resnet50"](multi_grid=(1, 2, 4), stride_placement=placement)
    backbone.set_output_stride(16)
    assert rates(backbone, "layer4") == [2, 4, 8]
    assert rates(backbone, "layer3") == [1] * 6
    backbone.set_output_stride(8)
    assert rates(backbone, "layer4") == [4, 8, 16]


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v2_050", "efficientnet_lite0"])
def test_multi_grid_of_the_last_three_inverted_residuals(name):
    plain, gridded = BACKBONES[name](), BACKBONES[name](multi_grid=(1, 2, 4))

    def last_rates(backbone, output_stride):
        backbone.set_output_stride(output_stride)
        return [block.depthwise.conv.rate for block in backbone.blocks][-4:]

    for output_stride, rate in ((32, 1), (16, 2), (8, 4)):
        before = last_rates(plain, output_stride)
        assert before[1:] == [rate] * 3
        assert last_rates(gridded, output_stride) == [before[0], rate, 2 * rate, 4 * rate]
    assert plain.state_dict().keys() == gridded.state_dict().keys()


def test_rates_of_torchvisions_placement():
    """The first unit's 3×3 stands before the stride that was taken out, so it keeps the rate before it."""
    backbone = BACKBONES["resnet50"](multi_grid=(1, 1, 1), stride_placement="first_3x3")
    backbone.set_output_stride(8)
    assert rates(backbone, "layer3") == [1, 2, 2, 2, 2, 2]
    assert rates(backbone, "layer4") == [2, 4, 4]


def test_mobilenet_dilates_its_last_blocks_at_output_stride_16():
    """FACTS A6: behind the 160-channel stage's first block the rate is 2; a peer leaves it at 1."""
    backbone = BACKBONES["mobilenet_v2"]()
    backbone.set_output_stride(16)
    assert [block.depthwise.conv.rate for block in backbone.blocks][-4:] == [1, 2, 2, 2]
    assert backbone.low_level_channels == 144


@pytest.mark.parametrize("name", BACKBONES)
def test_low_level_features_lie_at_stride_4(name):
    backbone = BACKBONES[name]().eval()
    features = backbone(torch.randn(1, 3, 65, 33))
    assert features.low_level.shape == (1, backbone.low_level_channels, 17, 9)
    assert features.output.shape[1] == backbone.out_channels


def test_impossible_values_are_named():
    with pytest.raises(AtrousError, match="output_stride=12"):
        BACKBONES["mobilenet_v2"]().set_output_stride(12)
    with pytest.raises(AtrousError, match="multi_grid"):
        BACKBONES["resnet50"](multi_grid=(1, 2))
    with pytest.raises(AtrousError, match="multi_grid"):
        BACKBONES["efficientnet_lite0"](multi_grid=(1, 2))
    with pytest.raises(AtrousError, match="one rate"):
        BACKBONES["mobilenet_v2"](variant="jfzhang95", multi_grid=(1, 2, 4))
    with pytest.raises(AtrousError, match="stride_placement='middle'"):
        BACKBONES["resnet50"](stride_placement="middle")
