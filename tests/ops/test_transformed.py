"""What torch does with a function beside calling it: second derivatives, transforms, other defaults, autocast."""

import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.func
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.functional import hessian
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from atrous.layers import ConvNormAct, SeparableConv
from atrous.models import create_model
from atrous.ops import (
    atrous_conv2d,
    depthwise_conv2d,
    lovasz_losses,
    permutohedral,
    resize,
    upsample_argmax,
    upsample_cross_entropy,
)


def of_gradients(function, inputs):
    """The gradient of the squared gradients' sum, as a gradient penalty or meta-learning takes it."""
    first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
    return torch.autograd.grad(sum(each.square().sum() for each in first), inputs)


def last(*shape):
    return torch.randn(shape).to(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize(
    ("function", "reference", "shapes"),
    [
        (
            partial(depthwise_conv2d, padding=2, rate=2),
            lambda x, w: F.conv2d(x, w, None, 1, 2, 2, groups=64),
            [(2, 64, 9, 8), (64, 1, 3, 3)],
        ),
        (
            partial(atrous_conv2d, rate=12),
            lambda x, w, b: F.conv2d(x, w, b, 1, 12, 12),
            [(4, 512, 21, 21), (256, 512, 3, 3), (256,)],
        ),
        (
            partial(resize, size=(9, 11), align_corners=True),
            partial(F.interpolate, size=(9, 11), mode="bilinear", align_corners=True),
            [(2, 8, 4, 5)],
        ),
    ],
    ids=["depthwise", "atrous", "resize"],
)
def test_second_derivatives_are_torchs(function, reference, shapes):
    torch.manual_seed(0)
    inputs = [last(*shape) if len(shape) == 4 else torch.randn(shape, requires_grad=True) for shape in shapes]
    for found, expected in zip(of_gradients(function, inputs), of_gradients(reference, inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("training", [True, False])
def test_second_derivatives_of_layers_are_those_in_float64(training):
    torch.manual_seed(0)
    layers = torch.nn.Sequential(ConvNormAct(64, 64, 3), SeparableConv(64, 8, 3, rate=2), torch.nn.Conv2d(8, 3, 1))
    layers = layers.train(training).to(memory_format=torch.channels_last)
    x = torch.randn(2, 64, 17, 17).to(memory_format=torch.channels_last)

    def penalty(dtype):
        twin = layers.to(dtype)
        weights = list(twin.parameters())
        first = torch.autograd.grad(twin(x.to(dtype)).square().mean(), weights, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), weights)

    found = penalty(torch.float32)
    for ours, expected in zip(found, penalty(torch.float64), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


def test_second_derivatives_of_the_losses_are_the_references():
    torch.manual_seed(0)
    logits, target = torch.randn(1, 3, 2, 2), torch.randint(0, 3, (1, 9, 9))
    for options in ({}, {"weight": torch.tensor([1.0, 2.0, 3.0])}, {"hardest": 0.5}):
        found = hessian(lambda x, o=options: upsample_cross_entropy(x, target, **o), logits)
        expected = hessian(lambda x, o=options: upsample_cross_entropy(x, target, **o), logits.double())
        assert expected.norm() > 0.01
        torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-6)
    found, expected = (
        hessian(lambda x: lovasz_losses(x.softmax(1), target[:, :2, :2]).sum(), logits.to(dtype))
        for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-4)


def test_transforms_and_modes_see_torchs_operators():
    torch.manual_seed(0)
    x, weight = torch.randn(1, 64, 20, 20), torch.randn(64, 1, 3, 3)
    recorded = make_fx(lambda x, w: depthwise_conv2d(x, w, 1, 12, 12))(x, weight)
    torch.testing.assert_close(recorded(x, weight), F.conv2d(x, weight, None, 1, 12, 12, groups=64))
    found = torch.func.grad(lambda w: depthwise_conv2d(x, w, 1, 12, 12).square().sum())(weight)
    expected = torch.func.grad(lambda w: F.conv2d(x, w, None, 1, 12, 12, groups=64).square().sum())(weight)
    torch.testing.assert_close(found, expected)
    model = create_model("deeplabv3plus_mobilenet_v2_050", 5).eval()
    state = dict(model.named_parameters()), dict(model.named_buffers())
    image = torch.randn(1, 3, 33, 33)
    gradients = torch.func.grad(lambda p: torch.func.functional_call(model, (p, state[1]), (image,)).mean())(state[0])
    assert gradients.keys() == state[0].keys()
    with FakeTensorMode():
        assert create_model("deeplabv3plus_mobilenet_v2_050", 5).eval()(torch.randn(1, 3, 65, 65)).shape[1] == 5


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_default_dtype_changes_nothing(float64_by_default):
    def run():
        torch.manual_seed(0)
        values = torch.rand((200, 9), dtype=torch.float32), torch.rand((200, 5), dtype=torch.float32) * 4
        x = torch.randn((2, 64, 9, 9), dtype=torch.float32).to(memory_format=torch.channels_last).requires_grad_()
        weight = torch.randn((64, 1, 3, 3), dtype=torch.float32, requires_grad=True)
        out = resize(depthwise_conv2d(x, weight, padding=1), (33, 33), True)
        target = torch.randint(0, 64, (2, 65, 65))
        loss = upsample_cross_entropy(out, target) + lovasz_losses(out.softmax(1), target[:, :33, :33]).sum()
        gradients = torch.autograd.grad(loss, [x, weight])
        return [permutohedral(*values), loss, *gradients, upsample_argmax(out, (65, 65))]

    found = run()
    torch.set_default_dtype(torch.float32)
    for ours, expected in zip(found, run(), strict=True):
        assert ours.dtype == expected.dtype
        assert torch.equal(ours, expected)


def test_what_is_no_probability_reaches_no_other_memory():
    logits, target = 1e4 * torch.randn(2, 5, 16, 16), torch.randint(0, 5, (2, 16, 16))
    assert lovasz_losses(logits, target).shape == (5,)


def test_a_loss_of_nothing_is_zero_and_wide_labels_are_labels():
    logits = torch.randn(2, 5, 3, 3)
    assert upsample_cross_entropy(logits[:0], torch.zeros(0, 9, 9, dtype=torch.long)) == 0
    target = torch.randint(0, 5, (2, 9, 9))
    assert upsample_cross_entropy(logits, target.to(torch.uint16)) == upsample_cross_entropy(logits, target)


def test_without_a_place_for_its_cache_numba_still_compiles(tmp_path):
    """As in a read-only container: neither the package's folder nor the user's can be written."""
    code = """
import numba.core.caching as caching
caching._CacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError("read-only"))
import torch
from atrous.ops.upsample_cpu import side
from atrous.ops import upsample_argmax
print(int(upsample_argmax(torch.randn(1, 5, 9, 9), (65, 65)).max()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4\n"


def twice(layer, weight, x):
    """A layer used twice: its second input comes from its own weight."""
    return layer(layer(x, weight), weight)


@pytest.mark.parametrize("kind", ["depthwise", "atrous", "batch norm"])
def test_a_layer_that_is_used_twice_has_the_same_gradient_with_a_graph_as_without(kind):
    torch.manual_seed(0)
    if kind == "depthwise":
        x, weight = last(2, 64, 17, 17), torch.randn(64, 1, 3, 3, requires_grad=True)
        layer = partial(depthwise_conv2d, padding=1)
    elif kind == "atrous":
        x, weight = last(4, 384, 21, 21), (torch.randn(384, 384, 3, 3) / 60).requires_grad_()
        layer = partial(atrous_conv2d, rate=12)
    else:
        norm = ConvNormAct(64, 64, 1).train().to(memory_format=torch.channels_last)
        x, weight = last(2, 64, 9, 9), norm.bn.weight

        def layer(x, _):
            return norm(x)

    plain = torch.autograd.grad(twice(layer, weight, x).square().sum(), [x, weight])
    recorded = torch.autograd.grad(twice(layer, weight, x).square().sum(), [x, weight], create_graph=True)
    for one, other in zip(plain, recorded, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_a_hook_of_the_input_runs_once():
    x, weight = last(2, 64, 17, 17), torch.randn(64, 1, 3, 3, requires_grad=True)
    ran = []
    x.register_hook(lambda grad: ran.append(1))
    torch.autograd.grad(depthwise_conv2d(x, weight, padding=1).square().sum(), [x, weight], create_graph=True)
    assert ran == [1]


def test_what_no_first_gradient_needs_may_change_before_it():
    logits, target = torch.randn(2, 5, 3, 3, requires_grad=True), torch.randint(0, 5, (2, 9, 9))
    loss = upsample_cross_entropy(logits, target)
    with torch.no_grad():
        logits.add_(1)
    target.zero_()
    loss.backward()
    norm = ConvNormAct(64, 64, 1).train().to(memory_format=torch.channels_last)
    out = norm(last(2, 64, 9, 9))
    with torch.no_grad():
        norm.bn.bias.add_(1)
    out.sum().backward()
