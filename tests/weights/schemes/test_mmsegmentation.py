"""mmsegmentation's DeepLabs, against a transcription of its layers with its names."""

import pytest
import torch
from mmsegmentation_network import EncoderDecoder

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights import open_model
from atrous.weights.schemes import SCHEMES
from atrous.weights.schemes.mmsegmentation import SCHEME, options_in
from atrous.weights.schemes.transfer import give, take
from networks import deviation, image, randomise

CLOSE = 1e-9  # relative, in norm


def converted(state, **options):
    found = SCHEME.recognise(state)
    model = create_model(found.architecture, **{**found.options, **options}).double().eval()
    take(state, model, SCHEME.layout(model), found.unused)
    return model


def on_meta(plus, **options):
    with torch.device("meta"):
        return EncoderDecoder(plus, **options).state_dict()


def test_the_transcription_has_the_published_size():
    """62.7 million for v3+ on ResNet-101 and ADE20K, with the auxiliary head (arXiv 2105.15203, table 2)."""
    state = on_meta(True, depth=101, num_classes=150)
    counted = sum(v.numel() for k, v in state.items() if not k.endswith(("running_mean", "running_var", "tracked")))
    assert round(counted / 1e6, 1) == 62.7


@pytest.mark.slow
@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({}, {}),
        ({"depth": 101, "num_classes": 21}, {}),
        ({"deep_stem": False, "aux": False, "channels": 128}, {}),
        ({"align_corners": True}, {"align_corners": True}),
        ({"mg124": True}, {"output_stride": 16, "multi_grid": (1, 1, 2)}),
    ],
)
def test_equal_logits_and_the_way_back(plus, theirs, ours):
    network = randomise(EncoderDecoder(plus, **theirs))
    state = network.state_dict()
    model = converted(state, **ours)
    with torch.inference_mode():
        for size in ((65, 97), (64, 96)):
            expected, auxiliary = network(image(*size))
            assert deviation(model(image(*size)), expected) < CLOSE
        if auxiliary is not None:
            assert deviation(model.training_logits(image(*size))[1][0], auxiliary) < CLOSE
    back = give(model, SCHEME.layout(model))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_the_pooled_map_comes_first_there_and_last_here():
    state = randomise(EncoderDecoder(True, channels=4)).state_dict()
    ours, theirs = converted(state).aspp.project.conv.weight, state["decode_head.bottleneck.conv.weight"]
    assert torch.equal(ours[:, 16:], theirs[:, :4])
    assert torch.equal(ours[:, :16], theirs[:, 4:])


def test_what_it_says_of_them():
    found = SCHEME.recognise(on_meta(True, depth=101, num_classes=150))
    assert found.architecture == "mmsegmentation_deeplabv3plus_resnet101"
    assert found.description.startswith("deeplabv3plus_r101-d8, with the auxiliary head")
    assert found.options["num_classes"] == 150
    assert SCHEME.recognise(on_meta(False, deep_stem=False, aux=False)).description.startswith("deeplabv3_r50b-d8 (")


def test_another_auxiliary_head_is_left_out():
    state = randomise(EncoderDecoder(False, channels=4)).state_dict()
    state["auxiliary_head.convs.1.conv.weight"] = torch.zeros(256, 256, 3, 3)
    assert "without its auxiliary head" in SCHEME.recognise(state).description
    assert converted(state).auxiliary is None


def without(state, *beginnings):
    return {name: value for name, value in state.items() if not name.startswith(beginnings)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: without(s, "decode_head.image_pool"), "without ASPP and image pooling"),
        (lambda s: without(s, "backbone.layer1.0.conv3"), "a ResNet-18 or -34"),
        (lambda s: without(s, "backbone.layer1.0.downsample.0"), "a ResNet-D"),
        (lambda s: without(s, "backbone.layer1.0.conv2"), "or another relative"),
        (lambda s: without(s, "backbone.layer3.5"), "5 units in block 3"),
        (lambda s: without(s, "backbone.layer"), "its backbone is no ResNet"),
        (lambda s: s | {"backbone.stem.0.weight": torch.zeros(32, 4, 3, 3)}, "images of 4 channels"),
    ],
)
def test_refused_with_the_reason(change, reason):
    with pytest.raises(WeightsError, match=reason) as refused:
        SCHEME.recognise(change(on_meta(True)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("options", [{"plus": True}, {"plus": False, "deep_stem": False, "depth": 101}])
def test_no_other_project_takes_it_for_its_own(options):
    state = on_meta(**options)
    assert [scheme.project for scheme in SCHEMES.values() if scheme.recognise(state)] == ["mmsegmentation"]


D16_MG124 = """model = dict(
    backbone=dict(type='ResNetV1c', depth=101, dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1), multi_grid=(1, 2, 4)),
    decode_head=dict(type='ASPPHead', align_corners=False, dilations=(1, 6, 12, 18)))
"""


@pytest.mark.parametrize("key", ["config", "cfg"])  # mmcv's and mmengine's
def test_a_checkpoint_whose_configuration_says_more(tmp_path, key):
    network = randomise(EncoderDecoder(False, mg124=True, channels=32)).float()
    text = (
        D16_MG124
        if key == "config"
        else D16_MG124.replace("(", "(\n    ").replace(", ", ",\n    ").replace(")", ",\n)")
    )
    meta = {key: text, "CLASSES": tuple(f"class {index}" for index in range(19))}
    torch.save({"meta": meta, "state_dict": network.state_dict()}, tmp_path / "iter_80000.pth")
    opened = open_model(tmp_path / "iter_80000.pth")
    assert opened.card.classes[18] == "class 18"
    with torch.inference_mode():
        assert deviation(opened.model.double()(image(65, 97)), network.double()(image(65, 97))[0]) < CLOSE


def test_what_a_configuration_says():
    assert options_in("decode_head=dict(align_corners=True)") == {"align_corners": True}
    assert options_in("backbone=dict(dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1))") == {"output_stride": 8}
    d16 = "backbone=dict(dilations=(1, 1, 1, 2), strides=(1, 2, 2, 1)), decode_head=dict(dilations=({}))"
    assert options_in(d16.format("1, 6, 12, 18")) == {"output_stride": 16}
    assert options_in(d16.format("1, 12, 24, 36")) == {"output_stride": 16, "aspp_rates": (12, 24, 36)}
    with pytest.raises(WeightsError, match=r"strides=\(2,2,2,2\)"):
        options_in("backbone=dict(strides=(2, 2, 2, 2))")
    with pytest.raises(WeightsError, match=r"multi_grid=\(1,2,1\)"):
        options_in("backbone=dict(strides=(1, 2, 2, 1), multi_grid=(1, 2, 1))")


def test_a_tensor_more_or_less_is_named():
    state = randomise(EncoderDecoder(True, channels=4)).state_dict()
    with pytest.raises(WeightsError, match=r"lacks decode_head\.sep_bottleneck\.1\.pointwise_conv\.bn\.bias"):
        converted(without(state, "decode_head.sep_bottleneck.1.pointwise_conv.bn.bias"))
    with pytest.raises(WeightsError, match=r"holds decode_head\.extra"):
        converted({**state, "decode_head.extra": torch.zeros(1)})
