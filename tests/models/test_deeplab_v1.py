"""v1 against its counts, and against its released layers written out."""

import pytest
import torch
import torch.nn.functional as F
from caffe_vgg import LARGE_FOV, NOUP, conv, vgg
from torch import nn

from atrous.errors import AtrousError
from atrous.models import create_model, deeplab_v1

# At 21 classes 134.3M, 65.1M and 20.5M in the paper's table of fields of view.
PARAMETERS = [
    ("deeplabv1_vgg16", {}, 134_346_581),
    ("deeplabv1_vgg16", {"fc6_kernel": 4}, 65_140_565),
    ("deeplabv1_vgg16", {"fc6_kernel": 4, "fc6_rate": 8}, 65_140_565),
    ("deeplabv1_vgg16_largefov", {}, 20_505_429),
    ("deeplabv1_vgg16_largefov", {"num_classes": 11}, 20_495_179),
    ("deeplabv1_vgg16_largefov", {"num_classes": 12}, 20_496_204),
    ("deeplabv1_vgg16_largefov_msc", {}, 21_711_445),
    # MSc adds the same 1,206,016 to each: 640 channels' worth of logits, and the branches.
    ("deeplabv1_vgg16_msc", {}, 134_346_581 + 1_206_016),
    ("deeplabv1_vgg16_msc", {"fc6_kernel": 4}, 65_140_565 + 1_206_016),
]


@pytest.mark.parametrize(("name", "options", "expected"), PARAMETERS, ids=str)
def test_parameter_counts(name, options, expected):
    with torch.device("meta"):
        model = create_model(name, **options)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "options", "sizes"),
    [
        ("deeplabv1_vgg16", {}, {306: 39, 514: 65, 513: 65}),
        ("deeplabv1_vgg16", {"fc6_kernel": 4}, {306: 39, 514: 65}),
        ("deeplabv1_vgg16", {"fc6_kernel": 4, "fc6_rate": 8}, {306: 39}),
        ("deeplabv1_vgg16_largefov", {}, {321: 41, 513: 65}),
        ("deeplabv1_vgg16_msc", {}, {321: 41, 512: 65}),
        ("deeplabv1_vgg16_largefov_msc", {}, {321: 41, 512: 65, 131: 18}),
    ],
    ids=str,
)
def test_map_sizes_of_the_papers_crops(name, options, sizes):
    with torch.device("meta"):
        model = create_model(name, **options)
        for size, expected in sizes.items():
            assert model.coarse_logits(torch.empty(1, 3, size, size)).shape == (1, 21, expected, expected)


def narrow(monkeypatch, name, **options):
    """The model in float64 and evaluation mode, with 32 channels in fc6 and fc7 and no bias at zero."""
    for kernel, (_, rate) in deeplab_v1.FC6.items():
        monkeypatch.setitem(deeplab_v1.FC6, kernel, (32, rate))
    torch.manual_seed(0)
    model = create_model(name, 5, **options).double().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return model


def assert_equal(ours, theirs):
    assert (ours - theirs).norm() <= 1e-9 * theirs.norm()
    assert theirs.std() > 1e-3


@pytest.mark.parametrize(("kernel", "rate"), [(7, 4), (4, 4), (4, 8)])
def test_the_first_model_is_its_released_layers(monkeypatch, kernel, rate):
    """vgg128_noup: 2×2 pools with Caffe's padding, fc6 k×k at its rate, fc7, fc8; on 8k + 2 pixels."""
    model = narrow(monkeypatch, "deeplabv1_vgg16", fc6_kernel=kernel, fc6_rate=rate)
    state = model.state_dict()
    image = torch.randn(1, 3, 34, 26, dtype=torch.float64)
    x = vgg(image, state, NOUP)[-1]
    assert x.shape[-2:] == (5, 4)
    x = F.relu(conv(x, state, "head.fc6", padding=rate * (kernel - 1) // 2, dilation=rate))
    x = F.relu(conv(x, state, "head.fc7"))
    with torch.inference_mode():
        assert_equal(model.coarse_logits(image), conv(x, state, "logits"))


@pytest.mark.parametrize("msc", [False, True])
@pytest.mark.parametrize("size", [(33, 65), (48, 38)])
def test_largefov_is_its_released_layers(monkeypatch, msc, size):
    """3×3 pools, pool5a, fc6 3×3 at rate 12; MSc: image and pool1 to pool4 through 3×3×128, 1×1×128, concatenated."""
    model = narrow(monkeypatch, "deeplabv1_vgg16_largefov" + "_msc" * msc)
    state = model.state_dict()
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    *pools, x = vgg(image, state, LARGE_FOV, pool5a=True)
    x = F.relu(conv(x, state, "head.fc6", padding=12, dilation=12))
    x = F.relu(conv(x, state, "head.fc7"))
    if msc:
        parts = [x]
        for index, (source, stride) in enumerate(zip([image, *pools], (8, 4, 2, 1, 1), strict=True)):
            # Zeros for the positions that Caffe's pools have beyond the end of a side that is not 32k + 1.
            source = F.pad(source, (1, stride, 1, stride))
            part = F.relu(conv(source, state, f"msc.branches.{index}.0", stride=stride))
            part = F.relu(conv(part, state, f"msc.branches.{index}.3"))
            parts.append(part[..., : x.shape[-2], : x.shape[-1]])
        x = torch.cat(parts, 1)
    with torch.inference_mode():
        assert_equal(model.coarse_logits(image), conv(x, state, "logits"))


def test_dropout_follows_fc6_and_fc7_and_each_msc_convolution():
    with torch.device("meta"):
        model = create_model("deeplabv1_vgg16_largefov_msc")
    drops = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p == 0.5]
    branches = [f"msc.branches.{branch}.{place}" for branch in range(5) for place in (2, 5)]
    assert drops == ["head.drop6", "head.drop7", *branches]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert all(module.bias is not None for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize(("name", "rates"), [("deeplabv1_vgg16", (4, 2, 1)), ("deeplabv1_vgg16_largefov", (12, 6, 3))])
def test_fc6_follows_the_output_stride(name, rates):
    with torch.device("meta"):
        model = create_model(name)
        assert model.output_stride == 8
        for output_stride, rate in zip((8, 16, 32), rates, strict=True):
            model.set_output_stride(output_stride)
            assert model.head.fc6.rate == rate
            assert model.coarse_logits(torch.empty(1, 3, 97, 97)).shape[-1] == 96 // output_stride + 1


def test_the_rate_that_was_given_is_in_the_config():
    with torch.device("meta"):
        model = create_model("deeplabv1_vgg16", 3, fc6_kernel=4, fc6_rate=8, output_stride=16)
        again = create_model(**model.config)
    assert again.head.fc6.rate == model.head.fc6.rate == 4
    assert again.head.fc6.kernel_size == (4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fc6_kernel": 5}, "fc6_kernel=5 is not 7, 4 or 3"),
        ({"msc": True}, "msc needs pooling='3x3'"),
        ({"fc6_kernel": 4, "output_stride": 32}, "needs an even rate for fc6_kernel=4, not 1"),
        ({"fc6_kernel": 4, "fc6_rate": 3}, "give an fc6_rate that is a multiple of 2"),
        ({"output_stride": 64}, "output_stride=64"),
    ],
)
def test_misuse_is_named(options, message):
    with torch.device("meta"), pytest.raises(AtrousError) as error:
        create_model("deeplabv1_vgg16", **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
