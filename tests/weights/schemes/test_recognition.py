"""Every project's tensors are seen by its own scheme and by no other."""

import jfzhang95_networks
import kazuto1011_networks
import pytest
import torch
import vainf_networks

from atrous.models import create_model
from atrous.weights.schemes import SCHEMES, torchvision


def torchvisions(backbone, **options):
    with torch.device("meta"):
        model = create_model(f"torchvision_deeplabv3_{backbone}", **options)
    name = torchvision.layout(model).name
    return {name(ours): tuple(tensor.shape) for ours, tensor in model.state_dict().items()}


CASES = {
    "kazuto1011 v2": ("kazuto1011", lambda: kazuto1011_networks.shapes_of("v2")),
    "kazuto1011 v2 at one scale": ("kazuto1011", lambda: kazuto1011_networks.shapes_of("v2", msc=False)),
    "kazuto1011 v3": ("kazuto1011", lambda: kazuto1011_networks.shapes_of("v3")),
    "kazuto1011 v3+": ("kazuto1011", lambda: kazuto1011_networks.shapes_of("v3plus", msc=False)),
    "jfzhang95 resnet": ("jfzhang95", lambda: jfzhang95_networks.shapes_of("resnet")),
    "jfzhang95 mobilenet": ("jfzhang95", lambda: jfzhang95_networks.shapes_of("mobilenet")),
    "VainF v3": ("VainF", lambda: vainf_networks.shapes_of("deeplabv3", "resnet50")),
    "VainF v3 mobilenet": ("VainF", lambda: vainf_networks.shapes_of("deeplabv3", "mobilenet")),
    "VainF v3+": ("VainF", lambda: vainf_networks.shapes_of("deeplabv3plus", "resnet101")),
    "VainF v3+ separable": ("VainF", lambda: vainf_networks.shapes_of("deeplabv3plus", "mobilenet", separable=True)),
    "torchvision": ("torchvision", lambda: torchvisions("resnet50", aux=True)),
    "torchvision mobilenet": ("torchvision", lambda: torchvisions("mobilenet_v3_large")),
}


@pytest.mark.parametrize("case", CASES)
def test_one_scheme_alone_knows_it(case):
    project, shapes = CASES[case]
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes().items()}
    assert [scheme.project for scheme in SCHEMES.values() if scheme.recognise(state) is not None] == [project]
