"""Batch norm and the activation behind it, in training and out of it."""

import copy

import pytest
import torch
from torch import nn

from atrous.layers import BatchNorm2d, ConvNormAct, PlainSeparableConv

LAYERS = {
    "relu": lambda: ConvNormAct(6, 16),
    "relu6": lambda: ConvNormAct(6, 16, 3, act="relu6", eps=1e-3),
    "hard_swish": lambda: ConvNormAct(6, 16, act="hard_swish"),
    "linear": lambda: ConvNormAct(6, 16, act=None),
    "separable": lambda: PlainSeparableConv(6, 16),
}


def run(layer, x):
    """Its output, the gradients, and the batch norm's numbers afterwards."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(x)
    gradients = torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), [x, *weights(layer)])
    return [out, *gradients, *layer.bn.buffers()]


def weights(layer):
    return list(layer.parameters())


def written_out(layer):
    """The same of torch's own layers, one after another, in float64."""
    twin = copy.deepcopy(layer).double()
    norm = nn.BatchNorm2d(twin.bn.num_features, eps=twin.bn.eps, momentum=twin.bn.momentum).double()
    norm.load_state_dict(twin.bn.state_dict())
    norm.train(twin.bn.training)
    twin.bn = norm
    return twin


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_training_equals_torchs_layers_in_a_row(name, frozen):
    torch.manual_seed(0)
    layer = LAYERS[name]()
    with torch.no_grad():
        layer.bn.weight.uniform_(0.5, 2)
        layer.bn.bias.uniform_(-1, 1)
        layer.bn.running_var.uniform_(0.5, 2)
    if frozen:
        layer.bn.freeze()
    x = torch.randn(2, 6, 8, 9).contiguous(memory_format=torch.channels_last)
    plain = run(written_out(layer), x.double())
    layer.train()
    for mine, exact in zip(run(layer, x), plain, strict=True):
        torch.testing.assert_close(mine.double(), exact.double(), rtol=1e-4, atol=1e-4)
    assert int(layer.bn.num_batches_tracked) == (0 if frozen else 1)


def test_a_batch_norm_of_another_kind_keeps_its_own_way():
    """A synchronised one, say: training puts it in place of ours."""

    class Doubled(BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    layer = ConvNormAct(6, 16)
    x = torch.randn(2, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    once = layer(x)
    layer.bn = Doubled(16)
    torch.testing.assert_close(layer(x), 2 * once)


def test_compiled_training_is_the_same():
    """torch.compile knows torch's operators: our loop leaves the field to them."""
    torch.manual_seed(0)
    layer = ConvNormAct(6, 16)
    x = torch.randn(2, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    twin = copy.deepcopy(layer)
    compiled = torch.compile(twin, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(twin.bn.running_var, layer.bn.running_var, rtol=1e-5, atol=1e-6)


def test_hooks_see_every_module_outside_training():
    """Engines and explanations look in; and out of training a layer is its modules, one after another."""
    layer = ConvNormAct(6, 16).eval()
    seen = []
    for name, module in layer.named_children():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    layer(torch.randn(1, 6, 4, 4).contiguous(memory_format=torch.channels_last))
    assert seen == ["conv", "bn", "act"]
