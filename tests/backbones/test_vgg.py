"""VGG-16: what the released models' pooling does, and SPP-net's classifier on it."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from atrous.backbones import BACKBONES, SPPNet
from atrous.errors import AtrousError


@pytest.fixture(scope="module")
def released():
    """As v1 and v2 have it (LargeFOV without pool5a), in float64 with biases that are not zero."""
    torch.manual_seed(0)
    model = BACKBONES["vgg16"]().double().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return model


def test_names_are_torchvisions():
    """torchvision's vgg16: `features`, numbered with the ReLUs and pools between them."""
    with torch.device("meta"):
        state = BACKBONES["vgg16"]().state_dict()
    numbers = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert list(state) == [f"features.{n}.{kind}" for n in numbers for kind in ("weight", "bias")]
    assert state["features.28.weight"].shape == (512, 512, 3, 3)
    assert sum(p.numel() for p in state.values()) == 14_714_688  # torchvision's vgg16().features


@pytest.mark.parametrize(("output_stride", "strides", "rate"), [(8, [1, 1], 2), (16, [2, 1], 1), (32, [2, 2], 1)])
def test_pool4_and_pool5_give_up_their_strides(output_stride, strides, rate):
    with torch.device("meta"):
        model = BACKBONES["vgg16"]()
    model.set_output_stride(output_stride)
    assert [model.features[index].stride for index in (4, 9, 16)] == [2, 2, 2]
    assert [model.features[index].stride for index in (23, 30)] == strides
    assert [model.features[index].rate for index in (24, 26, 28)] == [rate] * 3
    assert all(model.features[index].rate == 1 for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21))


@pytest.mark.slow
def test_the_released_pool5_is_the_one_thing_that_is_not_atrous(released):
    """Up to conv5_3 the features at output stride 8 are those at 16 on a finer grid; pool5's window is half as wide."""
    x = torch.randn(1, 3, 33, 33, dtype=torch.float64)
    before, after = {}, {}
    with torch.inference_mode():
        for output_stride in (8, 16):
            released.set_output_stride(output_stride)
            before[output_stride] = released.features[:30](x)
            after[output_stride] = released(x).output
    released.set_output_stride(8)
    torch.testing.assert_close(before[8][..., ::2, ::2], before[16], rtol=1e-9, atol=1e-12)
    assert (after[8][..., ::2, ::2] - after[16]).norm() > 0.01 * after[16].norm()


@pytest.mark.parametrize(
    ("pooling", "sizes"),
    [
        ("3x3", {321: [161, 81, 41, 41, 41], 513: [257, 129, 65, 65, 65], 512: [257, 129, 65, 65, 65]}),
        ("2x2", {306: [154, 78, 40, 39, 39], 514: [258, 130, 66, 65, 65], 513: [258, 130, 66, 65, 65]}),
    ],
)
def test_map_sizes_of_the_papers_crops(pooling, sizes):
    """321 is 32k + 1 and 306, 514 are 8k + 2; 513 is padded by a pixel for "2x2", so that it has all 65 positions."""
    with torch.device("meta"):
        model = BACKBONES["vgg16"](pooling=pooling)
        model.set_output_stride(8)
        for size, expected in sizes.items():
            assert [stage.shape[-2] for stage in model.stages(torch.empty(1, 3, size, 33))] == expected


def test_pool5a_counts_the_padding():
    """Caffe's average pooling divides by nine at the border as well."""
    model = BACKBONES["vgg16"](average_pool5=True)
    corner = model.pool5a(torch.ones(1, 1, 5, 5))[0, 0]
    torch.testing.assert_close(corner[0, :3], torch.tensor([4 / 9, 6 / 9, 6 / 9]))


def test_unknown_pooling_is_named():
    with pytest.raises(AtrousError, match="pooling='4x4' is not 3x3, 2x2 or vgg"):
        BACKBONES["vgg16"](pooling="4x4")


def test_spp_net_has_the_pyramid_where_vgg_has_pool5():
    """21 bins of 512 channels into fc6: 10,752 inputs, where VGG-16 has 7·7·512 and one size of image."""
    with torch.device("meta"):
        model = SPPNet()
    assert model.fc6.in_features == 10_752
    assert sum(p.numel() for p in model.parameters()) == 14_714_688 + 10_753 * 4096 + 4097 * 4096 + 4097 * 1000


@pytest.mark.slow
def test_spp_net_classifies_any_size():
    """Against VGG-16 written out, on sizes that pool to a map smaller and larger than the 4×4 level."""
    torch.manual_seed(0)
    model = SPPNet(num_classes=5, levels=(2, 1)).eval()
    state = model.state_dict()
    for size in [(1, 1), (20, 33), (64, 50)]:
        image = torch.randn(2, 3, *size)
        x = image
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            for index in block:
                weight, bias = (state[f"backbone.features.{index}.{kind}"] for kind in ("weight", "bias"))
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            if block[0] != 24:
                x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = torch.cat([F.adaptive_max_pool2d(x, 2).flatten(1), x.amax((2, 3))], 1)
        for layer in ("fc6", "fc7"):
            x = F.relu(F.linear(x, state[f"{layer}.weight"], state[f"{layer}.bias"]))
        with torch.inference_mode():
            torch.testing.assert_close(model(image), F.linear(x, state["fc8.weight"], state["fc8.bias"]))
