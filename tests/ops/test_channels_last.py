"""Operators whose gradient follows the map's layout."""

import pytest
import torch

from atrous import create_model
from atrous.ops import spatial_mean, subsample

LAYOUTS = [torch.contiguous_format, torch.channels_last]
PLAIN = {
    "mean": (spatial_mean, lambda x: x.mean((2, 3), keepdim=True)),
    "subsample": (lambda x: subsample(x, 2), lambda x: x[..., ::2, ::2]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", PLAIN)
def test_equals_torch_and_its_gradient_has_the_maps_layout(name, dtype, layout):
    ours, theirs = PLAIN[name]
    x = torch.randn(2, 3, 5, 8).to(dtype).contiguous(memory_format=layout).requires_grad_()
    out = ours(x)
    assert torch.equal(out, theirs(x))
    with torch.no_grad():
        assert torch.equal(ours(x), out)
    grad = torch.randn(out.shape).to(dtype)
    found = torch.autograd.grad(out, x, grad, retain_graph=True)[0]
    torch.testing.assert_close(found, torch.autograd.grad(theirs(x), x, grad)[0])
    # As where maps fork: in the sum of both branches' gradients.
    other = torch.ones_like(x)
    assert (found + other).is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", PLAIN)
def test_gradients_of_gradients(name):
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PLAIN[name][0], x)
    assert torch.autograd.gradgradcheck(PLAIN[name][0], x)


@pytest.mark.parametrize(
    "name",
    ["deeplabv3_resnet50", "deeplabv3plus_mobilenet_v3_large", "deeplabv3plus_xception41", "deeplabv2_resnet101"],
)
def test_every_gradient_of_a_map_is_channels_last(name):
    """But those of a concatenation's parts, which are views of one that is."""
    model = create_model(name, num_classes=3, output_stride=16).train().to(memory_format=torch.channels_last)
    channels_first = []

    def watch(module, _, out):
        def look(grad):
            if grad.dim() == 4 and grad.shape[1] > 1 and grad.shape[2] > 1 and grad.stride(1) != 1:
                channels_first.append(type(module).__name__)

        if isinstance(out, torch.Tensor) and out.requires_grad:
            out.register_hook(look)

    for module in model.modules():
        module.register_forward_hook(watch)
    images = torch.randn(2, 3, 65, 65).contiguous(memory_format=torch.channels_last)
    model.coarse_logits(images).square().sum().backward()
    assert channels_first == []
