"""jfzhang95's networks, written out over their own tensors, against ours after the conversion."""

import pytest
import torch
from jfzhang95_networks import logits, mobile_shapes, second_name, shapes_of
from written_out import CLOSE, deviation, noise, random_state

from atrous.errors import WeightsError
from atrous.models import create_model
from atrous.weights.schemes.jfzhang95 import layout, recognise
from atrous.weights.schemes.transfer import give, take


def on_meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def saved(backbone):
    """What the project saves: MobileNetV2's blocks under two names."""
    state = random_state(shapes_of(backbone))
    twice = {second_name(name): state[name] for name in mobile_shapes()} if backbone == "mobilenet" else {}
    return state | twice


def converted(state, **options):
    found = recognise(state)
    model = create_model(found.architecture, **{**found.options, **options}).double().eval()
    take(state, model, layout(model), found.unused)
    return model


@pytest.mark.parametrize(
    ("backbone", "architecture", "options", "tensors"),
    [
        ("resnet", "deeplabv3plus_resnet101", {"stride_placement": "first_3x3_dilated"}, 680),
        ("mobilenet", "jfzhang95_deeplabv3plus_mobilenet_v2", {}, 668),
    ],
)
def test_names_and_shapes_say_what_it_is(backbone, architecture, options, tensors):
    assert len(shapes_of(backbone)) == tensors
    for classes in (19, 21):
        found = recognise(on_meta(shapes_of(backbone, classes)))
        assert found.architecture == architecture
        assert found.options == {"num_classes": classes, **options}


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("backbone", ["resnet", "mobilenet"])
def test_equal_logits(backbone, output_stride):
    state = saved(backbone)
    model = converted(state, output_stride=output_stride)
    for size in ((65, 97), (64, 96)):
        x = noise(*size)
        with torch.inference_mode():
            assert deviation(model(x), logits(backbone, state, x, output_stride)) < CLOSE
    returned = give(model, layout(model))
    assert returned.keys() == state.keys()
    assert all(torch.equal(returned[name], tensor) for name, tensor in state.items())


def test_two_names_of_a_tensor_must_agree():
    state = saved("mobilenet")
    state["backbone.features.5.conv.0.weight"] = state["backbone.features.5.conv.0.weight"] + 1
    with pytest.raises(WeightsError, match=r"features\.5\.conv\.0\.weight is not equal to backbone\.high_level"):
        converted(state)


def test_other_decoders_are_not_given_its_names():
    with torch.device("meta"):
        assert layout(create_model("deeplabv3plus_resnet101")) is None
        assert layout(create_model("deeplabv3plus_mobilenet_v2")) is None
        assert layout(create_model("deeplabv3plus_resnet101", stride_placement="first_3x3_dilated", conv3=True)) is None


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("block1.rep.0.conv1", "an Xception that is not the Aligned one"),
        ("layer0.0", "a DRN"),
        ("stages.0", "on a backbone that the project does not have"),
    ],
)
def test_what_is_not_carried_over_is_refused(backbone, message):
    head = {name: shape for name, shape in shapes_of("resnet").items() if not name.startswith("backbone.")}
    with pytest.raises(WeightsError, match=message):
        recognise(on_meta({f"backbone.{backbone}.weight": (64, 64, 3, 3), **head}))


def test_an_early_decoder_is_refused():
    shapes = shapes_of("resnet")
    early = {name.replace("last_conv.8", "last_conv.6"): shape for name, shape in shapes.items()}
    with pytest.raises(WeightsError, match="an early form"):
        recognise(on_meta(early))
