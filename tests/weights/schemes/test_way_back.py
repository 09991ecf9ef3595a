"""The way back is there where the other project has the network, and only there; and namesakes are told apart."""

import json

import pytest
import torch
from safetensors.torch import save_file

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import export_state, load_backbone, open_model, save_model
from networks import deviation, image, randomise

OTHERS = [
    ("torchvision", "torchvision_deeplabv3_resnet50", {"multi_grid": (1, 2, 4)}),
    ("torchvision", "torchvision_deeplabv3_resnet50", {"stem": "beta"}),
    ("transformers", "deeplabv3_mobilenet_v2_050", {"multi_grid": (1, 2, 4)}),
    ("transformers", "deeplabv3_mobilenet_v2", {"variant": "torchvision"}),
    ("transformers", "deeplabv3_mobilenet_v2_050", {"image_pooling": False}),
    ("transformers", "deeplabv3_efficientnet_lite0", {"aspp_rates": ()}),
    ("jfzhang95", "deeplabv3plus_resnet101", {"stride_placement": "first_3x3_dilated", "aspp_rates": (3, 6, 9)}),
    ("jfzhang95", "deeplabv3plus_resnet101", {"stride_placement": "first_3x3_dilated", "low_level_channels": 32}),
    ("VainF", "vainf_deeplabv3plus_resnet50", {"multi_grid": (1, 2, 4)}),
    ("mmsegmentation", "mmsegmentation_deeplabv3_resnet50", {"stride_placement": "last_3x3"}),
    ("kazuto1011", "kazuto1011_deeplabv3_resnet101", {"image_pooling": False}),
    ("timm", "deeplabv3_mobilenet_v2_050", {}),
]
THEIRS = [
    ("torchvision", "torchvision_deeplabv3_resnet50", {"output_stride": 16}),
    ("transformers", "deeplabv3_mobilenet_v2_050", {"output_stride": 8}),
    ("VainF", "vainf_deeplabv3plus_mobilenet_v2", {}),
    ("mmsegmentation", "mmsegmentation_deeplabv3_resnet50", {"align_corners": True, "multi_grid": (1, 1, 2)}),
    ("smp", "smp_deeplabv3plus_mobilenet_v2", {"aspp_rates": (6, 12, 18)}),
    ("timm", "deeplabv3_mobilenet_v2", {"variant": "torchvision"}),
]


@pytest.mark.parametrize(("project", "name", "options"), OTHERS)
def test_a_network_that_a_project_lacks_is_refused(project, name, options):
    model = create_model(name, **options)
    with pytest.raises(WeightsError, match=f"{project} has no network like {name} \\("):
        export_state(model, project)


@pytest.mark.parametrize(("project", "name", "options"), THEIRS)
def test_a_network_that_a_project_has_is_written(project, name, options):
    assert export_state(create_model(name, **options), project)


@pytest.mark.slow
@pytest.mark.parametrize("scales", [None, (0.5, 0.75, 1.0)])
def test_kazuto1011s_networks_come_back_at_as_many_scales(tmp_path, scales):
    model = create_model("kazuto1011_deeplabv2_resnet101", 3, multi_scale=scales)
    state = export_state(model, "kazuto1011")
    assert all(name.startswith("base.") == (scales is not None) for name in state)


@pytest.mark.parametrize("name", ["smp_deeplabv3plus_mobilenet_v2", "torchvision_deeplabv3_mobilenet_v3_large"])
def test_a_model_of_one_class_has_the_same_mask_as_one_of_two(tmp_path, name):
    project = name.partition("_")[0]
    single = randomise(create_model(name, 1)).float()
    torch.save(export_state(single, project), tmp_path / "x.pth")
    opened = open_model(tmp_path / "x.pth")
    assert opened.card.classes == ("background", "foreground")
    assert opened.model.num_classes == 2
    assert "one class, told from the background" in opened.found
    with torch.inference_mode():
        x = image(65, 97).float()
        theirs, ours = single(x)[:, 0].sigmoid(), opened.model(x).softmax(1)[:, 1]
        torch.testing.assert_close(ours, theirs)
        save_model(opened.model, opened.card, tmp_path / "mine")
        assert deviation(open_model(tmp_path / "mine").model(x), opened.model(x)) < 1e-6


def classifier(folder, architecture, backbone, **config):
    """A directory as timm writes it."""
    model = create_model(backbone, variant="torchvision") if "mobilenet_v2" in backbone else create_model(backbone)
    folder.mkdir()
    state = model.backbone.state_dict() if "resnet" in backbone else export_state(model, "timm")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": architecture, **config}))
    return folder


@pytest.mark.parametrize(
    ("architecture", "backbone", "refused"),
    [
        ("mobilenetv2_100", "deeplabv3_mobilenet_v2", False),
        ("tf_mobilenetv3_small_100", "deeplabv3plus_mobilenet_v3_small", False),
        ("mobilenetv3_small_100", "deeplabv3plus_mobilenet_v3_small", True),
        ("tf_efficientnet_lite0", "deeplabv3plus_efficientnet_lite0", False),
        ("efficientnet_lite0", "deeplabv3plus_efficientnet_lite0", True),
        ("resnetaa50", "torchvision_deeplabv3_resnet50", True),
        ("resnet50", "torchvision_deeplabv3_resnet50", False),
    ],
)
def test_timms_directory_says_which_network_and_which_normalisation(tmp_path, architecture, backbone, refused):
    pretrained = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    folder = classifier(tmp_path / "hub", architecture, backbone, pretrained_cfg=pretrained)
    options = {"variant": "torchvision"} if "mobilenet_v2" in backbone else {}
    model = create_model(backbone, **options)
    if refused:
        with pytest.raises(WeightsError, match=f"its config.json says {architecture}, whose tensors have the names of"):
            load_backbone(model.backbone, folder)
    else:
        assert load_backbone(model.backbone, folder) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_timms_mobilenet_v2_is_not_taken_for_the_papers(tmp_path):
    folder = classifier(tmp_path / "hub", "mobilenetv2_100", "deeplabv3_mobilenet_v2")
    with pytest.raises(WeightsError, match="its backbone has variant='torchvision', this one 'paper'"):
        load_backbone(create_model("deeplabv3_mobilenet_v2").backbone, folder)


def test_smps_directory_says_which_encoder(tmp_path):
    state = export_state(create_model("smp_deeplabv3plus_mobilenet_v2", 3), "smp")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    for encoder, sound in (("mobilenet_v2", True), ("tu-other", False)):
        (tmp_path / "config.json").write_text(json.dumps({"encoder_name": encoder}))
        if sound:
            assert open_model(tmp_path).model.num_classes == 3
        else:
            with pytest.raises(WeightsError, match=r"its config\.json says tu-other"):
                open_model(tmp_path)


def test_transformers_epsilon_is_read(tmp_path):
    state = export_state(create_model("deeplabv3_mobilenet_v2_050", 3, 8), "transformers")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    config = {"tf_padding": True, "layer_norm_eps": 1e-5, "output_stride": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"layer_norm_eps=1e-05; here it is \.001"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.001}))
    assert open_model(tmp_path).model.num_classes == 3
