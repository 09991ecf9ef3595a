"""kazuto1011's networks, written out over their own tensors, against ours after the conversion."""

import pytest
import torch
from kazuto1011_networks import logits, resnet_shapes, shapes_of
from written_out import CLOSE, deviation, noise, random_state

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights.schemes.kazuto1011 import MEAN, STD, layout, recognise
from atrous.weights.schemes.scheme import by_prefix
from atrous.weights.schemes.transfer import give, take

FORMS = [("v2", 8), ("v3", 16), ("v3", 8), ("v3plus", 16)]


def converted(state, **options):
    found = recognise(state)
    model = create_model(found.architecture, **{**found.options, **options}).double().eval()
    rename = by_prefix(found.renamed)
    take({rename(name): tensor for name, tensor in state.items()}, model, layout(model), found.unused)
    return model


def as_ours(bgr):
    """BGR in 0..255 less the project's mean, to what our card makes of the same pixels."""
    rgb = (bgr + torch.tensor([104.008, 116.669, 122.675], dtype=torch.float64)[:, None, None]).flip(1) / 255
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    return (rgb - mean) / std


def test_the_tensors_are_those_of_the_published_files():
    shapes = shapes_of("v2", 182)
    assert len(shapes) == 632
    assert shapes["base.layer1.conv1.conv.weight"] == (64, 3, 7, 7)
    assert next(reversed(shapes.items())) == ("base.aspp.c3.bias", (182,))
    with torch.device("meta"):
        model = create_model("kazuto1011_deeplabv2_resnet101", 182, multi_scale=[0.5, 0.75, 1.0])
    assert {name: tuple(tensor.shape) for name, tensor in give_names(model).items()} == shapes


def give_names(model):
    return {layout(model).name(name): tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("classes", [21, 182])
@pytest.mark.parametrize("msc", [True, False])
@pytest.mark.parametrize("version", ["v2", "v3", "v3plus"])
def test_names_and_shapes_say_what_it_is(version, msc, classes):
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in shapes_of(version, classes, msc).items()}
    found = recognise(state)
    assert found.architecture == f"kazuto1011_deeplab{version}_resnet101"
    assert found.options == {"num_classes": classes, **({"multi_scale": (0.5, 0.75, 1.0)} if msc else {})}
    assert found.std == (1 / 255,) * 3
    assert ("_MSC" in found.description) == msc


@pytest.mark.slow
@pytest.mark.parametrize(("version", "output_stride"), FORMS)
@pytest.mark.parametrize("msc", [True, False])
def test_equal_logits(version, output_stride, msc):
    """Sides of which a half or three quarters are no whole numbers are rounded down."""
    state = random_state(shapes_of(version, msc=msc))
    model = converted(state, output_stride=output_stride)
    for size in ((65, 97), (64, 96)):
        bgr = 50 * noise(*size)
        with torch.inference_mode():
            assert deviation(model(as_ours(bgr)), logits(version, state, bgr, output_stride, msc)) < CLOSE
    returned, wrapped = (
        give(model, layout(model)),
        {f"base.{name.removeprefix('base.')}": state[name] for name in state},
    )
    assert returned.keys() == wrapped.keys()
    assert all(torch.equal(returned[name], tensor) for name, tensor in wrapped.items())


@pytest.mark.slow
@pytest.mark.parametrize("msc", [True, False])
def test_either_file_runs_at_one_scale_and_at_several(msc):
    """And the first convolution's channels are turned round, BGR to RGB."""
    state = random_state(shapes_of("v2", msc=msc))
    wrapped = {f"base.{name.removeprefix('base.')}": tensor for name, tensor in state.items()}
    single = {name.removeprefix("base."): tensor for name, tensor in state.items()}
    bgr = 50 * noise(65, 65)
    with torch.inference_mode():
        model = converted(state, multi_scale=None)
        assert deviation(model(as_ours(bgr)), logits("v2", single, bgr, 8, msc=False)) < CLOSE
        several = converted(state, multi_scale=[0.5, 0.75, 1.0])
        assert deviation(several(as_ours(bgr)), logits("v2", wrapped, bgr, 8)) < CLOSE
    theirs, ours = single["layer1.conv1.conv.weight"], model.backbone.conv1.weight
    assert all(torch.equal(ours[:, channel], theirs[:, 2 - channel]) for channel in range(3))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (resnet_shapes((3, 4, 6, 3)), "6 units in layer4"),
        (resnet_shapes(), "without the head"),
        (shapes_of("v1", 91, msc=False), "without the head"),
    ],
)
def test_what_it_has_no_network_for_is_refused(shapes, message):
    with torch.device("meta"), pytest.raises(WeightsError, match=message):
        recognise({name: torch.empty(shape) for name, shape in shapes.items()})
