"""The cascaded v3 against a direct transcription of the paper's section 3.2."""

import pytest
import torch
import torch.nn.functional as F

from atrous.errors import AtrousError
from atrous.models import create_model
from networks import randomise

COUNTS = [
    ("deeplabv3_cascade_resnet50", 4, 23_551_061),
    ("deeplabv3_cascade_resnet50", 5, 36_938_837),
    ("deeplabv3_cascade_resnet50", 6, 50_326_613),
    ("deeplabv3_cascade_resnet50", 7, 63_714_389),
    ("deeplabv3_cascade_resnet101", 4, 42_543_189),
    ("deeplabv3_cascade_resnet101", 5, 55_930_965),
    ("deeplabv3_cascade_resnet101", 6, 69_318_741),
    ("deeplabv3_cascade_resnet101", 7, 82_706_517),
]


@pytest.mark.parametrize(("name", "blocks", "expected"), COUNTS)
def test_parameter_counts(name, blocks, expected):
    with torch.device("meta"):
        model = create_model(name, blocks=blocks)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("deeplabv3_resnet50", 39_172_309), ("deeplabv3_resnet101", 58_164_437), ("deeplabv3plus_resnet101", 59_468_085)],
)
def test_parameter_counts_with_the_beta_stem(name, expected):
    """58.16M is what MobileNetV2's table 7 prints for ResNet-101."""
    with torch.device("meta"):
        model = create_model(name, stem="beta")
    assert sum(p.numel() for p in model.parameters()) == expected


def transcription(state, x, output_stride, multi_grid):
    """ResNet-50 to block 7: a stride of 2 in the last unit of blocks 1 to 6, atrous once the stride is reached."""

    def norm(x, name):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, state[f"{name}.weight"], state[f"{name}.bias"], False, 0.0, 1e-5)

    x = F.relu(norm(F.conv2d(x, state["backbone.conv1.weight"], stride=2, padding=3), "backbone.bn1"))
    x = F.max_pool2d(x, 3, 2, 1)
    stride, rate = 4, 1
    for block, units in enumerate((3, 4, 6, 3, 3, 3, 3), start=1):
        for unit in range(units):
            name = f"backbone.layer{block}.{unit}"
            nominal = 2 if unit == units - 1 and block < 7 else 1
            step = nominal if stride < output_stride else 1
            grid = multi_grid[unit] if block >= 4 else 1
            y = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1"))
            y = F.conv2d(y, state[f"{name}.conv2.weight"], stride=step, padding=rate * grid, dilation=rate * grid)
            y = F.relu(norm(y, f"{name}.bn2"))
            y = norm(F.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if f"{name}.downsample.0.weight" in state:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"]), f"{name}.downsample.1")
            x = F.relu(F.max_pool2d(x, 1, step) + y)
            stride *= step
            rate *= nominal // step
    return F.conv2d(x, state["logits.weight"], state["logits.bias"])


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16, 256])
def test_outputs_equal_a_transcription(output_stride):
    model = randomise(create_model("deeplabv3_cascade_resnet50", 3, output_stride, multi_grid=(1, 2, 1)))
    x = torch.randn(1, 3, 65, 49, dtype=torch.float64)
    with torch.inference_mode():
        ours = model.coarse_logits(x)
        exact = transcription(model.state_dict(), x, output_stride, (1, 2, 1))
    assert ours.shape == exact.shape
    assert (ours - exact).norm() / exact.norm() < 1e-9


def test_strides_up_to_256_and_no_further():
    """Table 1 of v3 runs block 7 at output strides 8 to 256."""
    with torch.device("meta"):
        model = create_model("deeplabv3_cascade_resnet50")
    for output_stride in (8, 16, 32, 64, 128, 256):
        model.set_output_stride(output_stride)
        assert model.coarse_logits(torch.empty(1, 3, 513, 513, device="meta")).shape[-1] == 512 // output_stride + 1
    with pytest.raises(AtrousError, match="output_stride=512 is not one of 8, 16, 32, 64, 128, 256"):
        model.set_output_stride(512)
    with torch.device("meta"):
        shallow = create_model("deeplabv3_resnet50")
    with pytest.raises(AtrousError, match="output_stride=64 is not one of 8, 16, 32"):
        shallow.set_output_stride(64)
    assert shallow.output_stride == 16
