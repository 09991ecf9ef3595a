"""torchvision's checkpoints as torchvision saves them, through `open_model`, against torchvision's own outputs."""

import pytest
import torch
from torch import nn

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import IMAGENET, export_state, load_backbone, open_model
from networks import deviation, image, randomise

CLOSE = 1e-9
BACKBONES = ["resnet50", "resnet101", "mobilenet_v3_large"]


def deeplab(torchvision, backbone, aux, num_classes=21):
    make = getattr(torchvision.models.segmentation, f"deeplabv3_{backbone}")
    return randomise(make(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux))


@pytest.mark.slow
@pytest.mark.parametrize("aux", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_deeplab_there_and_back(torchvision, backbone, aux, tmp_path):
    theirs = deeplab(torchvision, backbone, aux, 19)
    torch.save({"model": theirs.state_dict(), "epoch": 3}, tmp_path / "model.pth")
    opened = open_model(tmp_path / "model.pth")
    assert opened.found.startswith(f"torchvision's deeplabv3_{backbone}")
    assert ("auxiliary" in opened.found) == aux
    assert opened.card.classes[0] == "road"
    # The reader gives float32; the tensors of the double network go in whole for the comparison.
    model = opened.model.double()
    back = export_state(model, "torchvision")
    assert back.keys() == theirs.state_dict().keys()
    assert all(tensor.equal(theirs.state_dict()[name].float().to(tensor.dtype)) for name, tensor in back.items())
    theirs.load_state_dict(back)
    for size in ((513, 513), (97, 131)) if backbone == "mobilenet_v3_large" else ((513, 65), (97, 131)):
        with torch.inference_mode():
            assert deviation(model(image(*size)), theirs(image(*size))["out"]) < CLOSE


CLASSIFIERS = [
    ("resnet50", "deeplabv3_resnet50", {"stride_placement": "first_3x3", "multi_grid": (1, 1, 1)}),
    ("resnet101", "deeplabv3_resnet101", {"stride_placement": "first_3x3", "multi_grid": (1, 1, 1)}),
    ("mobilenet_v2", "deeplabv3_mobilenet_v2", {"variant": "torchvision"}),
    ("mobilenet_v3_large", "torchvision_deeplabv3_mobilenet_v3_large", {}),
    ("mobilenet_v3_small", "deeplabv3plus_mobilenet_v3_small", {"variant": "torchvision"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture", "options"), CLASSIFIERS)
def test_the_classifiers_features(torchvision, name, architecture, options, tmp_path):
    theirs = randomise(getattr(torchvision.models, name)(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "classifier.pth")
    model = create_model(architecture, **options)
    assert load_backbone(model.backbone, tmp_path / "classifier.pth") == IMAGENET
    model.backbone.double().eval().set_output_stride(32)
    theirs.float().double()
    body = nn.Sequential(*list(theirs.children())[:-2]) if "resnet" in name else theirs.features
    if name == "mobilenet_v2":
        body = body[:18]
    with torch.inference_mode():
        assert deviation(model.backbone(image(97, 131)).output, body(image(97, 131))) < CLOSE


@pytest.mark.slow
def test_vggs_convolutions(torchvision, tmp_path):
    theirs = randomise(torchvision.models.vgg16(weights=None))
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    model = create_model("deeplabv1_vgg16_largefov")
    load_backbone(model.backbone, tmp_path / "vgg16.pth")
    ours = model.backbone.features.state_dict()
    assert len(ours) == 26
    assert all(tensor.equal(theirs.features.state_dict()[name].float()) for name, tensor in ours.items())


@pytest.mark.slow
def test_a_classifier_is_no_segmentation_model(torchvision, tmp_path):
    path = tmp_path / "resnet50.pth"
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    with pytest.raises(WeightsError, match=r"resnet50, an ImageNet classifier.*pretrained_backbone=FILE"):
        open_model(path)
    # The paper's ResNet has its strides elsewhere: the features would be others than the classifier learnt.
    with pytest.raises(WeightsError, match="make the model with stride_placement='first_3x3'"):
        load_backbone(create_model("deeplabv3_resnet50").backbone, path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet18", "ResNet-18 or -34"),
        ("resnet152", "36 units in block 3"),
        ("resnext50_32x4d", "a ResNeXt, a wide ResNet"),
        ("wide_resnet50_2", "a ResNeXt, a wide ResNet"),
    ],
)
def test_what_no_backbone_here_is(torchvision, name, reason, tmp_path):
    with torch.device("meta"):
        shapes = getattr(torchvision.models, name)(weights=None).state_dict()
    torch.save({key: torch.zeros(()).expand(tensor.shape) for key, tensor in shapes.items()}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=reason):
        open_model(tmp_path / "x.pth")
