"""VainF's networks, written out over their own tensors, against ours after the conversion."""

import pytest
import torch
from vainf_networks import logits, shapes_of
from written_out import CLOSE, deviation, noise, random_state

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights.schemes.transfer import give, take
from atrous.weights.schemes.vainf import layout, recognise

FORMS = [
    (name, backbone, separable)
    for name in ("deeplabv3", "deeplabv3plus")
    for backbone in ("resnet50", "resnet101", "mobilenet")
    for separable in (False, True)
    if name == "deeplabv3plus" or not separable
]


def on_meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def converted(state, **options):
    found = recognise(state)
    model = create_model(found.architecture, **{**found.options, **options}).double().eval()
    take(state, model, layout(model), found.unused)
    return model


def test_the_tensors_are_as_many_as_the_project_saves():
    assert len(shapes_of("deeplabv3", "resnet50")) == 362
    assert len(shapes_of("deeplabv3plus", "resnet50")) == 368
    assert len(shapes_of("deeplabv3plus", "mobilenet")) == 356


@pytest.mark.parametrize("classes", [19, 21])
@pytest.mark.parametrize(("name", "backbone", "separable"), FORMS)
def test_names_and_shapes_say_what_it_is(name, backbone, separable, classes):
    found = recognise(on_meta(shapes_of(name, backbone, classes, separable)))
    assert found.architecture == f"vainf_{name}_{'mobilenet_v2' if backbone == 'mobilenet' else backbone}"
    assert found.options == {"num_classes": classes, **({"separable": True} if separable else {})}
    assert found.description.startswith(f"{name}_{backbone} ")


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize(("name", "backbone", "separable"), FORMS)
def test_equal_logits(name, backbone, separable, output_stride):
    state = random_state(shapes_of(name, backbone, separable=separable))
    model = converted(state, output_stride=output_stride)
    for size in ((65, 97), (64, 96)):
        x = noise(*size)
        with torch.inference_mode():
            assert deviation(model(x), logits(name, backbone, state, x, output_stride)) < CLOSE
    returned = give(model, layout(model))
    assert returned.keys() == state.keys()
    assert all(torch.equal(returned[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("separable", [False, True])
def test_the_low_level_features_change_places(separable):
    """There the 48 channels stand in front of the 256, here behind them."""
    state = random_state(shapes_of("deeplabv3plus", "mobilenet", separable=separable))
    first = converted(state).decoder.fuse[0]
    if separable:
        theirs, ours = state["classifier.classifier.0.body.1.weight"], first.pointwise.weight
        filters, moved = state["classifier.classifier.0.body.0.weight"], first.depthwise.weight
        assert torch.equal(moved[:256], filters[48:])
        assert torch.equal(moved[256:], filters[:48])
    else:
        theirs, ours = state["classifier.classifier.0.weight"], first.conv.weight
    assert torch.equal(ours[:, :256], theirs[:, 48:])
    assert torch.equal(ours[:, 256:], theirs[:, :48])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("transition1.0.0", "an HRNet"),
        ("block1.rep.0.conv1", "an Xception that pads by 1"),
        ("stages.0", "on a backbone that the project does not have"),
    ],
)
def test_what_it_has_no_network_for_is_refused(backbone, message):
    shapes = shapes_of("deeplabv3plus", "resnet50")
    head = {name: shape for name, shape in shapes.items() if name.startswith("classifier.")}
    with pytest.raises(WeightsError, match=message):
        recognise(on_meta({f"backbone.{backbone}.weight": (64, 64, 3, 3), **head}))
