"""TensorFlow's DeepLab checkpoints: names to layers by value, and networks that TensorFlow itself built and saved."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from atrous.errors import WeightsError
from atrous.weights import load_model, save_model
from atrous.weights.tensorflow import deeplab as tensorflow
from atrous.weights.tensorflow import load_tensorflow
from atrous.weights.tensorflow.bundle import read_checkpoint

MOBILENET = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
ENTRY_FLOWS = {"xception_41": (128, 256, 728), "xception_65": (128, 256, 728), "xception_71": (128, 256, 256, 728, 728)}
MIDDLE_FLOWS = {"xception_41": 8, "xception_65": 16, "xception_71": 16}


class Head(NamedTuple):
    branches: int = 0
    separable: bool = False
    decoder: bool = False
    image_pooling: bool = True
    classes: int = 21


V3 = Head()
V3_ATROUS = Head(branches=3)
V3_PLUS = Head(branches=3, separable=True, decoder=True)


def slim(backbone, head, width=1.0):
    """Names and shapes of all variables, as slim makes them for research/deeplab."""
    shapes = {}

    def batch_norm(scope, channels):
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{scope}/BatchNorm/{name}"] = (channels,)

    def conv(scope, size, ins, outs):
        shapes[f"{scope}/weights"] = (size, size, ins, outs)
        batch_norm(scope, outs)
        return outs

    def depthwise(scope, channels):
        shapes[f"{scope}/depthwise_weights"] = (3, 3, channels, 1)
        batch_norm(scope, channels)

    def separable(scope, ins, outs):
        depthwise(f"{scope}_depthwise", ins)
        return conv(f"{scope}_pointwise", 1, ins, outs)

    if backbone == "mobilenet_v2":
        channels = conv("MobilenetV2/Conv", 3, 3, int(32 * width))
        for index, outs in enumerate(MOBILENET):
            scope = f"MobilenetV2/expanded_conv_{index}" if index else "MobilenetV2/expanded_conv"
            hidden = conv(f"{scope}/expand", 1, channels, 6 * channels) if index else channels
            depthwise(f"{scope}/depthwise", hidden)
            channels = conv(f"{scope}/project", 1, hidden, int(outs * width))
        low_level = int(24 * width) * 6
    else:
        channels = conv(f"{backbone}/entry_flow/conv1_1", 3, 3, 32)
        channels = conv(f"{backbone}/entry_flow/conv1_2", 3, channels, 64)
        modules = [(f"entry_flow/block{n}/unit_1", (outs,) * 3) for n, outs in enumerate(ENTRY_FLOWS[backbone], 1)]
        modules += [(f"middle_flow/block1/unit_{n}", (728,) * 3) for n in range(1, MIDDLE_FLOWS[backbone] + 1)]
        modules += [("exit_flow/block1/unit_1", (728, 1024, 1024)), ("exit_flow/block2/unit_1", (1536, 1536, 2048))]
        for name, widths in modules:
            scope, ins = f"{backbone}/{name}/xception_module", channels
            for number, outs in enumerate(widths, 1):
                channels = separable(f"{scope}/separable_conv{number}", channels, outs)
            if name.startswith("entry") or name == "exit_flow/block1/unit_1":
                conv(f"{scope}/shortcut", 1, ins, channels)
        low_level = 256
    if head.image_pooling:
        conv("image_pooling", 1, channels, 256)
    conv("aspp0", 1, channels, 256)
    for number in range(1, head.branches + 1):
        if head.separable:
            separable(f"aspp{number}", channels, 256)
        else:
            conv(f"aspp{number}", 3, channels, 256)
    conv("concat_projection", 1, 256 * (1 + head.branches + head.image_pooling), 256)
    if head.decoder:
        conv("decoder/feature_projection0", 1, low_level, 48)
        for number, ins in enumerate((256 + 48, 256)):
            if head.separable:
                separable(f"decoder/decoder_conv{number}", ins, 256)
            else:
                conv(f"decoder/decoder_conv0/decoder_conv0_{number + 1}", 3, ins, 256)
    shapes["logits/semantic/weights"] = (1, 1, 256, head.classes)
    shapes["logits/semantic/biases"] = (head.classes,)
    return shapes


class Checkpoint(Mapping):
    """A checkpoint in memory; its values are random, and it remembers which were read."""

    index = Path("model.ckpt-1.index")

    def __init__(self, shapes):
        rng = np.random.default_rng(0)
        self.values = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
        self.read = []

    def shape(self, name):
        return self.values[name].shape

    def __getitem__(self, name):
        self.read.append(name)
        return self.values[name]

    def __contains__(self, name):
        return name in self.values

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


@pytest.fixture
def load(monkeypatch):
    """Loads a checkpoint that was never written."""

    def load(checkpoint, **options):
        monkeypatch.setattr(tensorflow, "read_checkpoint", lambda path: checkpoint)
        return load_tensorflow("model.ckpt-1", **options)

    return load


HEAD_PLACES = {
    "aspp.pointwise": "aspp0",
    "aspp.image_pooling.project": "image_pooling",
}
V3_PLUS_PLACES = {
    **HEAD_PLACES,
    "aspp.atrous.0.depthwise": "aspp1_depthwise",
    "aspp.atrous.2.pointwise": "aspp3_pointwise",
    "decoder.low_level": "decoder/feature_projection0",
    "decoder.fuse.0.depthwise": "decoder/decoder_conv0_depthwise",
    "decoder.fuse.1.pointwise": "decoder/decoder_conv1_pointwise",
}
MOBILENET_PLACES = {
    "backbone.stem": "MobilenetV2/Conv",
    "backbone.blocks.0.depthwise": "MobilenetV2/expanded_conv/depthwise",
    "backbone.blocks.1.expand": "MobilenetV2/expanded_conv_1/expand",
    "backbone.blocks.16.project": "MobilenetV2/expanded_conv_16/project",
}


def xception_places(name, middle, last):
    """Where a few of its layers lie: the first module of the middle flow and the last module have these numbers."""
    return {
        "backbone.stem.0": f"{name}/entry_flow/conv1_1",
        "backbone.stem.1": f"{name}/entry_flow/conv1_2",
        "backbone.blocks.0.shortcut": f"{name}/entry_flow/block1/unit_1/xception_module/shortcut",
        "backbone.blocks.2.stack.0.depthwise": (
            f"{name}/entry_flow/block3/unit_1/xception_module/separable_conv1_depthwise"
        ),
        f"backbone.blocks.{middle + 1}.stack.1.pointwise": (
            f"{name}/middle_flow/block1/unit_2/xception_module/separable_conv2_pointwise"
        ),
        f"backbone.blocks.{last - 1}.shortcut": f"{name}/exit_flow/block1/unit_1/xception_module/shortcut",
        f"backbone.blocks.{last}.stack.2.pointwise": (
            f"{name}/exit_flow/block2/unit_1/xception_module/separable_conv3_pointwise"
        ),
    }


ARCHITECTURES = [
    ("deeplabv3_mobilenet_v2", "mobilenet_v2", 1, V3, {**MOBILENET_PLACES, **HEAD_PLACES}),
    ("deeplabv3_mobilenet_v2_050", "mobilenet_v2", 0.5, V3, {**MOBILENET_PLACES, **HEAD_PLACES}),
    ("deeplabv3plus_mobilenet_v2", "mobilenet_v2", 1, V3_PLUS, {**MOBILENET_PLACES, **V3_PLUS_PLACES}),
    (
        "deeplabv3plus_mobilenet_v2_050",
        "mobilenet_v2",
        0.5,
        Head(branches=0, decoder=True, classes=5),
        {**MOBILENET_PLACES, "decoder.fuse.1": "decoder/decoder_conv0/decoder_conv0_2"},
    ),
    (
        "deeplabv3_mobilenet_v2",
        "mobilenet_v2",
        1,
        Head(branches=3, image_pooling=False),
        {"aspp.pointwise": "aspp0", "aspp.atrous.1": "aspp2"},
    ),
    (
        "deeplabv3plus_xception41",
        "xception_41",
        1,
        V3_PLUS,
        {**xception_places("xception_41", 3, 12), **V3_PLUS_PLACES},
    ),
    (
        "deeplabv3_xception65",
        "xception_65",
        1,
        V3_ATROUS,
        {**xception_places("xception_65", 3, 20), **HEAD_PLACES, "aspp.atrous.2": "aspp3"},
    ),
    (
        "deeplabv3plus_xception71",
        "xception_71",
        1,
        V3_PLUS,
        {**xception_places("xception_71", 5, 22), **V3_PLUS_PLACES},
    ),
]


@pytest.mark.parametrize(("name", "backbone", "width", "head", "places"), ARCHITECTURES)
def test_every_variable_goes_to_its_place(load, name, backbone, width, head, places):
    checkpoint = Checkpoint(slim(backbone, head, width))
    converted = load(checkpoint)
    model, values, state = converted.model, checkpoint.values, converted.model.state_dict()
    assert model.config["name"] == name
    assert sorted(checkpoint.read) == sorted(checkpoint)
    assert converted.found == f"TensorFlow's DeepLab, {name}, {head.classes} classes"
    assert not model.training
    assert (converted.card.mean, converted.card.std) == ((0.5,) * 3, (0.5,) * 3)
    assert len(converted.card.classes) == head.classes
    for layer, scope in places.items():
        if f"{scope}/depthwise_weights" in values:
            expected = np.einsum("hwcm->cmhw", values[f"{scope}/depthwise_weights"])
        else:
            expected = np.einsum("hwio->oihw", values[f"{scope}/weights"])
        assert np.array_equal(state[f"{layer}.conv.weight"], expected)
        for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
            assert np.array_equal(state[f"{layer}.bn.{ours}"], values[f"{scope}/BatchNorm/{theirs}"])
        for ours, theirs in (("mean", "moving_mean"), ("var", "moving_variance")):
            assert np.array_equal(state[f"{layer}.bn.running_{ours}"], values[f"{scope}/BatchNorm/{theirs}"])
    project = values["concat_projection/weights"][0, 0].T
    if head.image_pooling:  # first there, last here
        assert np.array_equal(state["aspp.project.conv.weight"][:, -256:, 0, 0], project[:, :256])
        assert np.array_equal(state["aspp.project.conv.weight"][:, :-256, 0, 0], project[:, 256:])
    else:
        assert np.array_equal(state["aspp.project.conv.weight"][..., 0, 0], project)
    assert np.array_equal(state["logits.weight"][..., 0, 0], values["logits/semantic/weights"][0, 0].T)
    assert np.array_equal(state["logits.bias"], values["logits/semantic/biases"])


def test_rates_and_output_stride_are_as_asked(load):
    checkpoint = Checkpoint(slim("mobilenet_v2", Head(branches=3)))
    model = load(checkpoint).model
    assert (model.output_stride, model.aspp.rates) == (16, (6, 12, 18))
    model = load(checkpoint, output_stride=8).model
    assert (model.output_stride, model.aspp.rates) == (8, (12, 24, 36))
    model = load(checkpoint, output_stride=8, aspp_rates=(1, 2, 3)).model
    assert model.aspp.rates == (1, 2, 3)
    two = Checkpoint(slim("mobilenet_v2", Head(branches=2)))
    assert load(two, aspp_rates=[4, 8]).model.aspp.rates == (4, 8)
    with pytest.raises(WeightsError, match="2 atrous branches, whose rates it does not say: give aspp_rates"):
        load(two)
    with pytest.raises(WeightsError, match=r"2 atrous branches, and aspp_rates=\(1,\)"):
        load(two, aspp_rates=(1,))
    with pytest.raises(WeightsError, match="output_stride=7"):
        load(checkpoint, output_stride=7)
    with pytest.raises(WeightsError, match="takes output_stride and aspp_rates, not wings"):
        load(checkpoint, wings=2)


def test_an_optimizers_variables_are_not_read(load):
    shapes = slim("mobilenet_v2", V3, 0.5)
    slots = {
        f"{name}/{slot}": shape for name, shape in shapes.items() for slot in ("Momentum", "ExponentialMovingAverage")
    }
    checkpoint = Checkpoint(shapes | slots | {"global_step": (), "beta1_power": ()})
    assert "moving averages" not in load(checkpoint).found
    assert sorted(checkpoint.read) == sorted(shapes)


def test_moving_averages_stand_in_for_variables_that_are_not_there(load):
    shapes = slim("mobilenet_v2", V3, 0.5)
    averaged = {name for name in shapes if "/moving_" not in name}
    renamed = {
        f"{name}/ExponentialMovingAverage" if name in averaged else name: shape for name, shape in shapes.items()
    }
    checkpoint = Checkpoint(renamed)
    converted = load(checkpoint)
    assert converted.found.endswith(f", {len(averaged)} of {len(shapes)} variables from their moving averages")
    weights = checkpoint.values["aspp0/weights/ExponentialMovingAverage"]
    assert np.array_equal(converted.model.aspp.pointwise.conv.weight.detach()[..., 0, 0], weights[0, 0].T)


@pytest.mark.parametrize("head", [V3, V3_PLUS])
def test_a_converted_model_is_saved_and_loaded_like_any_other(load, head, tmp_path):
    converted = load(Checkpoint(slim("mobilenet_v2", head, 0.5)), output_stride=8)
    loaded, card = load_model(save_model(converted.model, converted.card, tmp_path))
    assert card == converted.card
    assert (loaded.output_stride, loaded.aspp.rates) == (8, converted.model.aspp.rates)
    state = loaded.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in converted.model.state_dict().items())


def without(*prefixes):
    return lambda shapes: {name: shape for name, shape in shapes.items() if not name.startswith(prefixes)}


def adding(**added):
    return lambda shapes: shapes | {name.replace("__", "/"): shape for name, shape in added.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("MobilenetV2/Conv/BatchNorm/gamma"),
            r"lacks MobilenetV2/Conv/BatchNorm/gamma, .* \(1 missing in all\)",
        ),
        (without("aspp0"), "no ASPP with batch norm"),
        (without("logits"), "no segmentation head"),
        (without("Mobile"), "none of the backbones"),
        (without(""), "none of the backbones"),
        (adding(xception_41__entry_flow__conv1_1__weights=(3, 3, 3, 32)), "several of the backbones"),
        (adding(logits__center__weights=(1, 1, 256, 1)), "heads beside the semantic one"),
        (adding(MobilenetV2__Conv_1__weights=(1, 1, 320, 1280)), r"holds MobilenetV2/Conv_1/weights, .* \(1 in all\)"),
        (adding(aspp0__act_quant__min=()), "simulated quantisation"),
        (adding(aspp0__weights=(1, 1, 320, 128)), "its ASPP has 128 channels, Atrous' 256"),
        (
            adding(aspp0__weights=(3, 3, 320, 256)),
            r"aspp0/weights has the shape \(3, 3, 320, 256\), not \(1, 1, 320, 256\)",
        ),
        (adding(MobilenetV2__Conv__weights=(3, 3, 3, 24)), "begins with 24 channels"),
        (adding(logits__semantic__weights=(3, 3, 256, 21)), "not .1, 1, 256, 21. as deeplabv3_mobilenet_v2 needs"),
        (adding(logits__semantic__weights=(1, 1, 256, 100000)), "num_classes=100000"),
        (adding(logits__semantic__weights=(), aspp0__weights=()), "its ASPP has 0 channels"),
        (adding(meta_architecture__branch0__weights=(1, 1, 320, 256)), "dense prediction cell"),
        (adding(MobilenetV3__Conv__weights=(3, 3, 3, 16)), "MobileNetV3 or EdgeTPU"),
        (adding(hnasnet__cell_0__weights=(1,)), "found by search"),
        (adding(resnet_v1_50__conv1__weights=(7, 7, 3, 64)), "a ResNet, whose max pooling"),
        (adding(_CHECKPOINTABLE_OBJECT_GRAPH=()), "Keras objects"),
        (adding(decoder__feature_projection0__weights=(1, 1, 144, 48)), "lacks decoder/decoder_conv0/decoder_conv0_1/"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_with_its_reason(load, change, message):
    with pytest.raises(WeightsError, match=message) as error:
        load(Checkpoint(change(slim("mobilenet_v2", V3))))
    assert str(error.value).startswith("model.ckpt-1.index: ")
    assert "\n" not in str(error.value)


def test_half_separable_heads_are_refused(load):
    shapes = slim("mobilenet_v2", V3_PLUS) | slim("mobilenet_v2", Head(branches=3, decoder=True))
    mixed = without("aspp1_", "aspp2_", "aspp3_", "decoder/decoder_conv0/")(shapes)
    with pytest.raises(WeightsError, match="only some of its 3×3 convolutions in ASPP and decoder are separable"):
        load(Checkpoint(mixed))


# What TensorFlow itself builds and saves: sizes even and odd, rates within the maps and beyond them.
BUILT = [
    {"name": "mobile", "backbone": "mobilenet_v2", "head": V3, "size": (65, 97)},
    {"name": "mobile_half", "backbone": "mobilenet_v2", "width": 0.5, "head": V3, "size": (97, 130), "slots": True},
    {
        "name": "mobile_8",
        "backbone": "mobilenet_v2",
        "head": V3_PLUS,
        "size": (64, 81),
        "rates": (1, 2, 4),
        "stride": 8,
    },
    {"name": "mobile_plain", "backbone": "mobilenet_v2", "width": 0.5, "head": Head(3, decoder=True), "size": (49, 66)},
    {
        "name": "xception_41",
        "backbone": "xception_41",
        "head": V3_PLUS,
        "size": (65, 80),
        "rates": (1, 2, 3),
        "shards": 2,
    },
    {
        "name": "xception_65",
        "backbone": "xception_65",
        "head": V3_ATROUS,
        "size": (66, 49),
        "rates": (2, 3, 6),
        "stride": 8,
    },
    {"name": "xception_71", "backbone": "xception_71", "head": V3_PLUS._replace(classes=19), "size": (50, 65)},
]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A directory of checkpoints by TensorFlow, from a process and an environment of its own."""
    python = Path(sys.prefix) / "tensorflow" / "bin" / "python"  # where the Makefile puts it
    if not python.is_file():
        pytest.skip("TensorFlow is not here: make .venv/.tensorflow")
    directory = tmp_path_factory.mktemp("tensorflow")
    cases = []
    for seed, case in enumerate(BUILT):
        head = case["head"]
        rates = (6, 12, 18)[: head.branches]
        defaults = {"seed": seed, "width": 1, "shards": 1, "slots": False, "rates": rates, "stride": 16}
        cases.append({**defaults, **case, **head._asdict()})
    (directory / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).with_name("tensorflow_deeplab.py")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    command = [python, script, directory / "cases.json", directory]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    yield directory
    shutil.rmtree(directory)  # a GB


@pytest.mark.slow
@pytest.mark.parametrize("case", BUILT, ids=lambda case: case["name"])
def test_checkpoints_by_tensorflow_load_with_every_value_and_give_its_logits(built, case):
    checkpoint = read_checkpoint(built / case["name"])
    with np.load(built / f"{case['name']}.npz") as saved:
        assert {name.replace("|", "/") for name in saved} == set(checkpoint)
        for name, values in saved.items():
            read = checkpoint[name.replace("|", "/")]
            assert read.dtype == values.dtype
            assert np.array_equal(read, values)
    expected = slim(case["backbone"], case["head"], case.get("width", 1))
    network = {name for name in checkpoint if not name.endswith(("/Momentum", "/ExponentialMovingAverage", "_step"))}
    assert {name: checkpoint.shape(name) for name in network} == expected
    slots = {name.rpartition("/")[2] for name in set(checkpoint) - network}
    assert slots == {"global_step"} | ({"Momentum", "ExponentialMovingAverage"} if case.get("slots") else set())

    options = {"output_stride": case.get("stride", 16), "aspp_rates": case.get("rates")}
    model = load_tensorflow(built / case["name"], **options).model.double()
    with np.load(built / f"{case['name']}_logits.npz") as saved, torch.no_grad():
        logits = model(torch.from_numpy(saved["image"]).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
        # TensorFlow's own float64; measured, at most 3e-15.
        np.testing.assert_allclose(logits, saved["logits"], rtol=0, atol=1e-9 * np.abs(saved["logits"]).max())


@pytest.mark.slow
def test_other_files_by_tensorflow_are_read_or_refused(built):
    checkpoint = read_checkpoint(built / "types.ckpt")
    with np.load(built / "types.npz") as saved:
        assert {*saved, "string"} == set(checkpoint)
        for name, values in saved.items():
            assert checkpoint[name].dtype == values.dtype
            assert np.array_equal(checkpoint[name], values)
            assert checkpoint.shape(name) == values.shape
    for name, message in [
        ("partitioned.ckpt", "parts/weights lies in parts"),
        ("first_format.ckpt", "TensorFlow's first format"),
        ("frozen_inference_graph.pb", "a graph, frozen or not"),
        ("objects.ckpt-1", "is of TensorFlow's type 7"),
    ]:
        with pytest.raises(WeightsError, match=message):
            dict(read_checkpoint(built / name))
    with pytest.raises(WeightsError, match="Keras objects"):
        load_tensorflow(built / "objects.ckpt-1")
