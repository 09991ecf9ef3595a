"""Multiply-adds against the published counts, and layers with their true rates."""

import pytest
import torch

from atrous.errors import AtrousError
from atrous.models import create_model, describe

# In 10⁹, computed independently from the architectures. What the papers and the released models' table print for them
# stands in docs/architectures.md, with the reason where it differs.
MULTIPLY_ADDS = [
    ("deeplabv3_mobilenet_v2", 21, 16, 513, {}, 2.74),
    ("deeplabv3_mobilenet_v2", 21, 8, 513, {}, 8.83),
    ("deeplabv3_mobilenet_v2_050", 21, 16, 513, {}, 0.87),
    ("deeplabv3_mobilenet_v2_050", 21, 8, 513, {}, 2.82),
    ("deeplabv3_mobilenet_v2", 19, 16, (1025, 2049), {}, 21.23),
    ("deeplabv3_resnet101", 21, 16, 513, {"stem": "beta"}, 76.05),
    ("deeplabv3plus_xception65", 21, 16, 513, {}, 54.04),
    ("deeplabv3plus_xception65", 21, 8, 513, {}, 176.85),
    ("deeplabv3plus_xception65", 19, 16, (1025, 2049), {}, 418.38),
    ("deeplabv3_xception65", 21, 16, 513, {}, 64.92),
]


def on_meta(name, num_classes=21, output_stride=None, **options):
    with torch.device("meta"):
        return create_model(name, num_classes, output_stride, **options)


@pytest.mark.parametrize(
    ("name", "classes", "output_stride", "size", "options", "expected"), MULTIPLY_ADDS, ids=lambda v: str(v)
)
def test_multiply_adds(name, classes, output_stride, size, options, expected):
    description = describe(on_meta(name, classes, output_stride, **options), size)
    assert description.multiply_adds / 1e9 == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(("depth", "printed"), [(50, 178.722), (101, 258.743)])
def test_multiply_adds_that_torchvision_prints(depth, printed):
    """At 520 × 520, with the auxiliary head (3×3, 1024 to 256, then 21 classes), which prediction leaves out."""
    description = describe(on_meta(f"torchvision_deeplabv3_resnet{depth}", aux=True), 520)
    auxiliary = 65 * 65 * (1024 * 256 * 9 + 256 * 21)
    assert (description.multiply_adds + auxiliary) / 1e9 == pytest.approx(printed, rel=1e-4)


def test_layers_show_the_rates_that_run():
    """v3 at output stride 16: block 4 at 2·(1, 2, 4), ASPP at 6, 12, 18; at 8 all of them doubled, block 3 at 2."""
    model = on_meta("deeplabv3_resnet50")

    def rates(description, prefix):
        return [layer.rate for layer in description.layers if layer.name.startswith(prefix) and layer.kernel_size == 3]

    at_16 = describe(model)
    assert at_16.output_stride == 16
    assert rates(at_16, "backbone.layer3") == [1] * 6
    assert rates(at_16, "backbone.layer4") == [2, 4, 8]
    assert rates(at_16, "aspp") == [6, 12, 18]
    model.set_output_stride(8)
    at_8 = describe(model)
    assert rates(at_8, "backbone.layer3") == [2] * 6
    assert rates(at_8, "backbone.layer4") == [4, 8, 16]
    assert rates(at_8, "aspp") == [12, 24, 36]
    assert at_8.parameters == at_16.parameters == 39_048_533
    last = at_8.layers[-1]
    assert (last.name, last.size, last.out_channels) == ("logits", (65, 65), 21)
    assert last.multiply_adds == 65 * 65 * 256 * 21


def test_describing_changes_nothing():
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    describe(model, (33, 65))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_size_that_is_no_image_is_refused():
    with pytest.raises(AtrousError, match="size=0 is no image"):
        describe(on_meta("deeplabv3_mobilenet_v2_050"), 0)
