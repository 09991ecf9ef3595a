"""timm's classifiers against the features that timm computes on the same weights."""

import pytest
import torch
from safetensors.torch import save_file

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import export_state, load_backbone
from networks import deviation, image, randomise

CASES = [
    ("resnet50", "deeplabv3_resnet50", {"stride_placement": "first_3x3", "multi_grid": (1, 1, 1)}),
    ("xception41", "deeplabv3plus_xception41", {}),
    ("xception65", "deeplabv3plus_xception65", {}),
    ("xception71", "deeplabv3plus_xception71", {}),
    ("mobilenetv2_100", "deeplabv3plus_mobilenet_v2", {"variant": "torchvision"}),
    ("tf_mobilenetv3_large_100", "deeplabv3plus_mobilenet_v3_large", {}),
    ("tf_mobilenetv3_small_100", "deeplabv3plus_mobilenet_v3_small", {}),
    ("tf_efficientnet_lite0", "deeplabv3plus_efficientnet_lite0", {}),
    ("tf_efficientnet_lite1", "deeplabv3plus_efficientnet_lite1", {}),
    ("tf_efficientnet_lite2", "deeplabv3plus_efficientnet_lite2", {}),
]


def features(theirs, name, x):
    """Up to where DeepLab's backbone ends: timm's forward_features goes on to its 1280 channels."""
    if "mobilenet" not in name and "efficientnet" not in name:
        return theirs.forward_features(x)
    return theirs.blocks(theirs.bn1(theirs.conv_stem(x)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "architecture", "options"), CASES)
def test_equal_features_and_back(timm, name, architecture, options, tmp_path):
    theirs = randomise(timm.create_model(name, pretrained=False)).float()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    model = create_model(architecture, **options)
    load_backbone(model.backbone, tmp_path / "model.safetensors")
    model.double().eval().backbone.set_output_stride(32)
    theirs.double()
    for size in ((513, 65), (97, 131), (64, 96)):
        with torch.inference_mode():
            assert deviation(model.backbone(image(*size)).output, features(theirs, name, image(*size))) < 1e-9
    back = export_state(model, "timm") if name != "resnet50" else {}  # its names are torchvision's
    state = theirs.state_dict()
    assert all(tensor.equal(state[key]) for key, tensor in back.items())


@pytest.mark.slow
def test_another_timm_network_is_refused(timm, tmp_path):
    theirs = timm.create_model("mobilenetv2_140", pretrained=False)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="none of mobilenet_v2"):
        load_backbone(create_model("deeplabv3_mobilenet_v2").backbone, tmp_path / "model.safetensors")
