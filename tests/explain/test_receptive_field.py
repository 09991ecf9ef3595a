"""Receptive fields, against what changing one pixel after another changes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones import BACKBONES
from atrous.errors import AtrousError
from atrous.explain import extents, receptive_field
from atrous.explain.dependence import Dependence
from atrous.explain.layers import outputs_of
from atrous.layers import ASPP, AtrousConv2d, Decoder, SeparableConv
from atrous.models import create_model
from networks import randomise


class _Enough(Exception):  # noqa: N818
    pass


def changed_by(model: nn.Module, layer: str, size: tuple[int, int], pixels: Iterable[tuple[int, int]]) -> set[Any]:
    """The pixels whose change, in any of several ways, changes the middle position of a layer at all."""
    generator = torch.Generator().manual_seed(3)
    module = dict(model.named_modules())[layer]
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _in: Any, output: Any) -> None:
        while not isinstance(output, Tensor):
            output = output.output if hasattr(output, "output") else output[0]
        kept[:] = [output[..., output.shape[-2] // 2, output.shape[-1] // 2].clone()]
        raise _Enough

    def middle(images: Tensor) -> Tensor:
        with torch.no_grad(), pytest.raises(_Enough):
            model(images)
        return kept[0]

    hook = module.register_forward_hook(keep)
    pixels = list(pixels)
    found = set()
    for image in torch.randn(2, 1, 3, *size, dtype=torch.float64, generator=generator):
        for change in (40.0, -40.0):
            direction = change * torch.rand(3, dtype=torch.float64, generator=generator)
            before = middle(image)
            for start in range(0, len(pixels), 64):
                some = pixels[start : start + 64]
                images = image.repeat(len(some), 1, 1, 1)
                for index, (row, column) in enumerate(some):
                    images[index, :, row, column] += direction
                moved = (middle(images) - before).abs().amax(1)
                # A sum in another order may differ in its last bits.
                found |= {pixel for pixel, by in zip(some, moved, strict=True) if by > 1e-11 * before.abs().max()}
    hook.remove()
    return found


def predicted(model: nn.Module, layer: str, size: tuple[int, int]) -> Tensor:
    return Dependence(model).on([layer], size)[layer]


class SqueezeAndResize(nn.Module):
    """What is not a plain row of layers: a gate by the map's mean behind a convolution that is not, and resizing."""

    def __init__(self, gated: bool, align_corners: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.gate = nn.Conv2d(6, 6, 1)
        self.gated, self.align_corners = gated, align_corners
        self.last = nn.Conv2d(12, 4, 3, padding=2, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.hardswish(self.down(x))
        coarse = F.max_pool2d(F.relu6(fine), 2, ceil_mode=True)
        if self.gated:
            coarse = coarse * F.hardsigmoid(self.gate(coarse.mean((2, 3), keepdim=True)))
        up = F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=self.align_corners)
        out: Tensor = self.last(torch.cat([fine, up], 1))
        return out


class Whole(nn.Module):
    """ASPP without image pooling, and v3+'s decoder, on two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.aspp = ASPP(4, (1, 2), channels=4, conv=SeparableConv, image_pooling=False)
        self.decoder = Decoder(4, 4, low_level_channels=2, channels=4)

    def forward(self, x: Tensor) -> Tensor:
        low = self.first(x)
        out: Tensor = self.decoder(self.aspp(self.second(low)), low)
        return out


SMALL = {
    "rates": nn.Sequential(AtrousConv2d(3, 6, 3, rate=2), nn.ReLU(), AtrousConv2d(6, 6, 3, rate=4)),
    "same": nn.Sequential(AtrousConv2d(3, 6, 3, stride=2, padding="same"), AtrousConv2d(6, 6, 5, padding="same")),
    "even": nn.Sequential(nn.MaxPool2d(2, 2, 1), AtrousConv2d(3, 6, 4, rate=2), nn.ReLU6()),
    "pools": nn.Sequential(nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(3, 6, 3), nn.MaxPool2d(3, 1, 1)),
    "average": nn.Sequential(nn.Conv2d(3, 6, 1), nn.AvgPool2d(3, 2), nn.BatchNorm2d(6), nn.Hardswish()),
    "transposed": nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ConvTranspose2d(6, 6, 2, 2), nn.ELU()),
    "group norm": nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Conv2d(6, 2, 3)),
    "resized": SqueezeAndResize(False, align_corners=False),
    "resized, corners aligned": SqueezeAndResize(False, align_corners=True),
    "gated": SqueezeAndResize(True, align_corners=True),
    "head": Whole(),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(17, 21), (18, 16)], ids=str)
def test_the_field_is_what_changing_every_pixel_changes(name: str, size: tuple[int, int]) -> None:
    model = randomise(SMALL[name])
    expected = torch.zeros(size, dtype=torch.bool)
    for pixel in changed_by(model, "", size, np.ndindex(size)):
        expected[pixel] = True
    assert expected.sum() > 1
    assert (predicted(model, "", size) == expected).all()


# A layer of each backbone whose field lies within an image of that size; the strides and rates of output stride 8.
BACKBONE_LAYERS = [
    ("vgg16", {"pooling": "3x3"}, "features.9", (33, 33)),
    ("vgg16", {"pooling": "2x2"}, "features.9", (34, 34)),
    ("resnet50", {}, "layer1", (9, 57)),
    ("resnet50", {"stem": "beta", "stride_placement": "first_1x1", "ceil_mode": True}, "layer1", (9, 64)),
    ("xception41", {}, "blocks.1", (9, 65)),
    ("xception71", {}, "blocks.1", (9, 65)),
    ("mobilenet_v2", {}, "blocks.5", (9, 97)),
    ("mobilenet_v2_050", {}, "blocks.8", (17, 257)),
    ("mobilenet_v2", {"variant": "vainf"}, "blocks.3", (17, 65)),
    ("mobilenet_v3_small", {}, "blocks.0.depthwise", (17, 33)),
    ("mobilenet_v3_large", {}, "blocks.2", (9, 65)),
    ("efficientnet_lite0", {}, "blocks.4", (9, 97)),
]


@pytest.mark.parametrize(("name", "options", "layer", "size"), BACKBONE_LAYERS, ids=str)
def test_a_backbones_field_is_what_changing_pixels_changes(
    name: str, options: dict[str, Any], layer: str, size: tuple[int, int]
) -> None:
    backbone = BACKBONES[name](**options)
    backbone.set_output_stride(8)
    if layer == "layer1":
        # The block's units do not run by their own names: the batch norm of its last unit is where its field ends.
        layer = "layer1.2.bn3"
    model = randomise(backbone)
    mask = predicted(model, layer, size)
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    assert columns.min() > 0
    assert columns.max() < size[1] - 1
    middle = int(rows.float().mean())
    near = [column for edge in (int(columns.min()), int(columns.max())) for column in range(edge - 6, edge + 7)]
    along = {(middle, column) for column in near if 0 <= column < size[1]}
    assert changed_by(model, layer, size, along) == {pixel for pixel in along if mask[pixel]}


@pytest.mark.parametrize(
    ("kernel", "rate", "pooling", "field"),
    [
        (7, 4, "2x2", 404),
        (4, 4, "2x2", 308),
        (4, 8, "2x2", 404),
        (3, 12, "2x2", 404),
        # With the released LargeFOV's 3×3 pools: 1, 2, 4 and 8 pixels more.
        (3, 12, "3x3", 404 + 15),
    ],
)
def test_fc6_of_v1(kernel: int, rate: int, pooling: str, field: int) -> None:
    with torch.device("meta"):
        model = create_model("deeplabv1_vgg16", fc6_kernel=kernel, fc6_rate=rate, pooling=pooling)
    assert extents(model, ["head.fc6"]) == {"head.fc6": (field, field)}


def test_image_pooling_sees_the_whole_photo_and_block_4_as_far_as_its_multi_grid_says() -> None:
    def fields(multi_grid: tuple[int, ...]) -> dict[str, Any]:
        with torch.device("meta"):
            model = create_model("deeplabv3_resnet50", multi_grid=multi_grid)
        return extents(model, ["backbone.layer1", "backbone.layer4", "aspp.atrous.0", "aspp.image_pooling", ""])

    found = fields((1, 1, 1))
    # ResNet-50's field is 483 (Araujo et al., "Computing receptive fields of convolutional neural networks", Distill).
    assert found["backbone.layer4"] == (483, 483)
    assert found["backbone.layer1"] == (35, 35)
    assert found["aspp.atrous.0"] == (483 + 2 * 6 * 16,) * 2
    assert found["aspp.image_pooling"] is None
    assert found[""] is None
    # Each unit rate of v3 adds what it has above 1, times 2, at stride 32 of the plain network.
    assert fields((1, 2, 4))["backbone.layer4"] == (483 + 2 * 32 * (1 + 3),) * 2


def test_the_effective_field_of_one_kernel_is_the_kernel() -> None:
    model = nn.Sequential(AtrousConv2d(3, 1, 3, rate=2)).eval()
    field = receptive_field(model, "0", size=21, samples=2)
    strength = model[0].weight.detach()[0].square().sum(0).sqrt().numpy()
    assert field.effective[8:13:2, 8:13:2] == pytest.approx(strength, rel=1e-5)
    assert np.count_nonzero(field.effective) == 9
    assert (field.extent, field.stride, field.centre) == ((5, 5), 1, (10, 10))
    assert (field.theoretical == (field.effective > 0)).all()


def test_the_effective_field_lies_within_the_theoretical_one_and_is_smaller() -> None:
    model = create_model("deeplabv3_mobilenet_v2_050")
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    field = receptive_field(model, "backbone.blocks.6", size=193, position=(100, 60), samples=2)
    assert field.effective[~field.theoretical].max() == 0
    assert field.centre == pytest.approx((100, 60), abs=field.stride / 2)
    assert field.side_holding(0.5) < field.side_holding(0.95) < field.extent[0] < 193
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_layer_is_named_or_refused_by_its_name() -> None:
    model = create_model("deeplabv3plus_mobilenet_v2_050").eval()
    x = torch.zeros(1, 3, 33, 33)
    with torch.no_grad():
        found = outputs_of(model, x, ["", "backbone", "decoder.low_level"])
        assert torch.equal(found[""], model.coarse_logits(x))
        assert torch.equal(found["backbone"], model.backbone(x).output)
        assert torch.equal(found["decoder.low_level"], model.decoder.low_level(model.backbone(x).low_level))
    with pytest.raises(AtrousError, match=r"no layer 'backbone\.block\.3'; it has backbone\.blocks\.3"):
        outputs_of(model, x, ["backbone.block.3"])
    with pytest.raises(AtrousError, match="no pixel"):
        receptive_field(model, "backbone", size=33, position=(5, 33))
