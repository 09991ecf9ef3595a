"""smp's DeepLabs: the same tensors give the same logits, and come back as they were."""

import pytest
import torch

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import open_model
from atrous.weights.schemes import SCHEMES
from atrous.weights.schemes.smp import SCHEME
from atrous.weights.schemes.transfer import give, take
from networks import deviation, image, randomise

CLOSE = 1e-9  # relative, in norm
SIZES = ((64, 96), (96, 128))  # smp takes multiples of its output stride
V3, PLUS = "DeepLabV3", "DeepLabV3Plus"
ENCODERS = ("resnet50", "resnet101", "mobilenet_v2", "tu-resnet50", "tu-xception41", "tu-xception65", "tu-xception71")
FORMS = [(name, encoder, {}) for name in (V3, PLUS) for encoder in ENCODERS]
# The stride that is not its default, and what names and shapes tell.
FORMS += [
    (V3, "resnet50", {"encoder_output_stride": 16, "decoder_aspp_separable": True}),
    (PLUS, "resnet50", {"encoder_output_stride": 8, "decoder_aspp_separable": False}),
    (PLUS, "mobilenet_v2", {"encoder_output_stride": 8, "decoder_channels": 128, "classes": 1}),
    (V3, "mobilenet_v2", {"encoder_output_stride": 16, "decoder_atrous_rates": (6, 12, 18)}),
    (PLUS, "tu-resnet50", {"encoder_output_stride": 8}),
    (PLUS, "tu-xception65", {"encoder_output_stride": 8}),
    (V3, "tu-xception71", {"encoder_output_stride": 16}),
]
FORMS.remove((V3, "tu-xception71", {}))  # refused, see below


def peer(smp, name, encoder, **options):
    options = {"classes": 21, **options}
    return randomise(getattr(smp, name)(encoder, encoder_weights=None, **options))


def converted(state, **options):
    """Ours with those tensors, as whoever opens the file makes it."""
    found = SCHEME.recognise(state)
    model = create_model(found.architecture, **{**found.options, **options}).double().eval()
    take(state, model, SCHEME.layout(model), found.unused)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("name", "encoder", "options"), FORMS)
def test_equal_logits_and_the_way_back(smp, tmp_path, name, encoder, options):
    theirs = peer(smp, name, encoder, **options)
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    told = {"encoder_output_stride": "output_stride", "decoder_atrous_rates": "aspp_rates"}
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    ours = converted(state, **{told[key]: value for key, value in options.items() if key in told})
    with torch.inference_mode():
        for size in SIZES:
            assert deviation(ours(image(*size)), theirs(image(*size))) < CLOSE
        assert ours(image(33, 47)).isfinite().all()
    back = give(ours, SCHEME.layout(ours))
    again = getattr(smp, name)(encoder, encoder_weights=None, **{"classes": 21, **options}).double()
    again.load_state_dict(dict(back), strict=True)
    assert back.keys() == state.keys()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items())


@pytest.mark.slow
def test_a_directory_says_what_its_tensors_do_not(smp, tmp_path):
    theirs = peer(smp, V3, "mobilenet_v2", encoder_output_stride=16, decoder_atrous_rates=(6, 12, 18)).float()
    theirs.save_pretrained(tmp_path)
    opened = open_model(tmp_path)
    assert opened.found.startswith("smp's DeepLabV3 on mobilenet_v2")
    with torch.inference_mode():
        assert deviation(opened.model.double()(image(64, 96)), theirs.double()(image(64, 96))) < CLOSE


@pytest.mark.slow
def test_names_of_before_release_0_5(smp, tmp_path):
    theirs = peer(smp, V3, "mobilenet_v2").float()
    state = theirs.state_dict()
    old = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    for new, name in old.items():
        state = {key.replace(new, name): value for key, value in state.items()}
    assert "decoder.0.convs.0.0.weight" in state
    lightning = {"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 3}
    torch.save(lightning, tmp_path / "last.ckpt")
    ours = open_model(tmp_path / "last.ckpt").model.double()
    theirs.load_state_dict(dict(state))  # smp still takes them
    with torch.inference_mode():
        assert deviation(ours(image(64, 96)), theirs.double()(image(64, 96))) < CLOSE


def test_a_classification_head_is_left_out(smp):
    state = peer(smp, V3, "mobilenet_v2", aux_params={"classes": 4}).state_dict()
    assert "without its classification head" in SCHEME.recognise(state).description
    converted(state)


@pytest.mark.parametrize(
    ("name", "encoder", "options", "reason"),
    [
        (PLUS, "resnet18", {}, "a ResNet-18 or -34"),
        (V3, "resnet152", {}, "36 units in block 3"),
        (V3, "resnext50_32x4d", {}, "a ResNeXt"),
        (V3, "tu-mobilenetv3_large_100", {}, "batch norm has an epsilon that names do not tell"),
        (V3, "tu-xception71", {"encoder_output_stride": 8}, "leaves out a shortcut's convolution"),
        (PLUS, "efficientnet-b0", {}, "no backbone here is"),
        (PLUS, "resnet50", {"in_channels": 4}, "images of 4 channels"),
        (PLUS, "resnet50", {"encoder_depth": 4}, "encoder_depth is less than 5"),
        ("Unet", "resnet50", {}, "neither DeepLabV3 nor DeepLabV3Plus"),
    ],
)
def test_refused_with_the_reason(smp, name, encoder, options, reason):
    with torch.device("meta"):
        state = getattr(smp, name)(encoder, encoder_weights=None, **options).state_dict()
    with pytest.raises(WeightsError, match=reason) as refused:
        SCHEME.recognise(state)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "encoder"), [(V3, "resnet50"), (PLUS, "mobilenet_v2"), (PLUS, "tu-xception41")])
def test_no_other_project_takes_it_for_its_own(smp, name, encoder):
    with torch.device("meta"):
        state = getattr(smp, name)(encoder, encoder_weights=None, classes=21).state_dict()
    assert [scheme.project for scheme in SCHEMES.values() if scheme.recognise(state)] == ["smp"]


def test_a_network_that_smp_cannot_make_has_no_names_there():
    with torch.device("meta"):
        assert SCHEME.layout(create_model("deeplabv3plus_resnet50")) is None
        assert SCHEME.layout(create_model("smp_deeplabv3plus_resnet50", stride_placement="last_3x3")) is None
        assert SCHEME.layout(create_model("smp_deeplabv3plus_resnet50", aspp_rates=(6, 12))) is None
        assert SCHEME.layout(create_model("smp_deeplabv3plus_resnet50", aspp_rates=(6, 12, 18))) is not None
