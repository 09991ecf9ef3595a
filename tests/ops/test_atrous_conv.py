"""Atrous convolution over the valid taps against torch's over all of them."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atrous.layers import AtrousConv2d
from atrous.ops import atrous_conv, atrous_conv2d, valid_taps

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def ours(x, weight, bias, rate, which=(True, True, True)):
    """Our products whatever would be quicker."""
    return atrous_conv._AtrousConv2d.apply(x, weight, bias, rate, atrous_conv.Ours(*which))


def theirs(x, weight, bias, rate):
    return F.conv2d(x, weight, bias, 1, tuple(rate * (side // 2) for side in weight.shape[2:]), rate)


def with_gradients(convolve, grad, tensors, rate):
    tensors = [None if tensor is None else tensor.detach().clone().requires_grad_() for tensor in tensors]
    out = convolve(*tensors, rate)
    return out, *torch.autograd.grad(out, [tensor for tensor in tensors if tensor is not None], grad)


@st.composite
def problems(draw, dtype):
    """x, weight, bias, the gradient of the output, and a rate."""
    n, height, width = draw(st.integers(0, 3)), draw(st.integers(1, 13)), draw(st.integers(1, 13))
    channels, out_channels = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    kernel = draw(st.sampled_from([(3, 3), (5, 5), (1, 1), (3, 5), (1, 3)]))
    rate = draw(st.integers(1, max(height, width) + 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    shapes = (n, channels, height, width), (out_channels, channels, *kernel), (n, out_channels, height, width)
    x, weight, grad = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
    bias = torch.randn(out_channels, generator=generator).to(dtype) if draw(st.booleans()) else None
    layouts = st.sampled_from(["contiguous", "channels last", "strided"])
    x, weight, grad = (laid_out(tensor, draw(layouts)) for tensor in (x, weight, grad))
    return x, weight, bias, grad, rate


def laid_out(tensor, layout):
    if layout == "channels last":
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        return tensor.repeat_interleave(2, 3)[..., ::2]
    return tensor


def assert_close(mine, exact, tolerance):
    assert mine.shape == exact.shape
    scale = max(1.0, exact.abs().max().item()) if exact.numel() else 1.0
    assert ((mine.double() - exact).abs() <= tolerance * scale).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_equals_torch(dtype, data):
    x, weight, bias, grad, rate = data.draw(problems(dtype))
    mine = with_gradients(ours, grad, (x, weight, bias), rate)
    exact = with_gradients(
        theirs, grad.double(), [None if tensor is None else tensor.double() for tensor in (x, weight, bias)], rate
    )
    for a, b in zip(mine, exact, strict=True):
        assert a.dtype == dtype
        assert_close(a, b, TOLERANCE[dtype])


@pytest.mark.parametrize("product_type", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "out_channels"), [(96, 40), (40, 96)])
@pytest.mark.parametrize("rate", [2, 7, 30])
def test_bfloat16_loses_no_more_than_torch(product_type, channels, out_channels, rate, monkeypatch):
    """At most twice the error, with products in bfloat16 (as with AMX) or float32 (as without)."""
    monkeypatch.setattr(atrous_conv, "_product_type", lambda *_: product_type)
    generator = torch.Generator().manual_seed(rate)
    shapes = (2, channels, 20, 17), (out_channels, channels, 3, 3), (out_channels,), (2, out_channels, 20, 17)
    *tensors, grad = (torch.randn(shape, generator=generator).bfloat16() for shape in shapes)
    exact = with_gradients(theirs, grad.float(), [tensor.float() for tensor in tensors], rate)
    mine, plain = (with_gradients(convolve, grad, tensors, rate) for convolve in (ours, theirs))
    for a, b, true in zip(mine, plain, exact, strict=True):
        assert a.dtype == torch.bfloat16
        errors = [(value.float() - true).pow(2).mean().sqrt() for value in (a, b)]
        assert errors[0] <= 2 * errors[1] + 1e-6


@pytest.mark.parametrize(("channels", "out_channels"), [(3, 2), (2, 3)])
@pytest.mark.parametrize("rate", [1, 2, 4])
def test_gradients_are_those_of_the_output(channels, out_channels, rate):
    generator = torch.Generator().manual_seed(rate)
    shapes = (2, channels, 4, 5), (out_channels, channels, 3, 3), (out_channels,)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *given: ours(*given, rate), tensors)


@pytest.mark.parametrize("needs", list(product([True, False], repeat=3))[:-1])
def test_only_what_is_asked_for_is_computed(needs):
    tensors = [torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3), torch.randn(4)]
    tensors = [tensor.requires_grad_(need) for tensor, need in zip(tensors, needs, strict=True)]
    ours(*tensors, 2).sum().backward()
    found = [tensor.grad is not None for tensor in tensors]
    assert found == list(needs)


@pytest.mark.parametrize("which", list(product([True, False], repeat=3)))
def test_ours_and_torchs_mix(which):
    """Whichever of the three are ours, the results are the same."""
    tensors = [torch.randn(2, 3, 7, 6).double(), torch.randn(4, 3, 3, 3).double(), torch.randn(4).double()]
    grad = torch.randn(2, 4, 7, 6).double()
    mine = with_gradients(lambda *given: ours(*given, which=which), grad, tensors, 3)
    for a, b in zip(mine, with_gradients(theirs, grad, tensors, 3), strict=True):
        assert_close(a, b, 1e-12)


def test_large_maps_are_taken_in_parts(monkeypatch):
    """A few positions at a time, over rows and over images, give what all at once give."""
    tensors, grad = [torch.randn(5, 3, 9, 8).double(), torch.randn(2, 3, 3, 3).double(), None], torch.randn(5, 2, 9, 8)
    whole = with_gradients(ours, grad.double(), tensors, 2)
    for positions in (1, 7, 20, 100):
        monkeypatch.setattr(valid_taps, "_POSITIONS", positions)
        for a, b in zip(with_gradients(ours, grad.double(), tensors, 2), whole, strict=True):
            assert_close(a, b, 1e-13)


def test_layout_follows_the_input():
    weight = torch.randn(5, 4, 3, 3)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 4, 6, 7).contiguous(memory_format=layout).requires_grad_()
        out = ours(x, weight, None, 2)
        assert out.is_contiguous(memory_format=layout)
        assert torch.autograd.grad(out.sum(), x)[0].is_contiguous(memory_format=layout)


def test_the_same_bits_every_time():
    x, weight = torch.randn(2, 64, 33, 33), torch.randn(32, 64, 3, 3)
    grad = torch.randn(2, 32, 33, 33)
    first, second = (with_gradients(ours, grad, (x, weight, None), 6) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("size", [3, 4, 9])
def test_a_rate_beyond_the_map_leaves_the_centre_tap(size):
    """v3, section 3.3: the kernel degenerates to 1×1; what lies at the other taps, even infinity, has no part in it."""
    x, weight = torch.randn(1, 4, size, size), torch.full((3, 4, 3, 3), torch.inf)
    weight[..., 1, 1] = torch.randn(3, 4)
    torch.testing.assert_close(ours(x, weight, None, size), F.conv2d(x, weight[..., 1:2, 1:2]))


@pytest.fixture
def eager(monkeypatch):
    """Small convolutions are ours too."""
    monkeypatch.setattr(atrous_conv, "_LEAST_WORK", 0)
    monkeypatch.setattr(atrous_conv, "_LEAST_WEIGHT", 0)
    monkeypatch.setattr(atrous_conv, "_MOST_INSIDE", 1)
    monkeypatch.setattr(atrous_conv, "_AMX_RATE", 1)


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("amx", [True, False])
def test_autocast_decides_the_type(eager, trained, amx, monkeypatch):
    monkeypatch.setattr(atrous_conv, "_has_amx", lambda: amx)
    x, weight, bias = torch.randn(1, 4, 6, 6), torch.randn(3, 4, 3, 3, requires_grad=trained), torch.randn(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = atrous_conv2d(x, weight, bias, 6)
        if trained:
            out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), theirs(x, weight, bias, 6), rtol=0.02, atol=0.05)
    if trained:
        exact = with_gradients(theirs, torch.ones(1, 3, 6, 6), (x, weight, bias), 6)[2]
        assert weight.grad.dtype == torch.float32
        torch.testing.assert_close(weight.grad, exact, rtol=0.02, atol=0.1)


def processor(monkeypatch, amx, bfloat16, slow=False):
    """One with AMX or without, quicker in bfloat16 or in float32, slow at float32 matrices or not."""
    monkeypatch.setattr(atrous_conv, "_has_amx", lambda: amx)
    monkeypatch.setattr(atrous_conv, "convolves_sooner_in_bfloat16", lambda: bfloat16)
    monkeypatch.setattr(atrous_conv, "_multiplies_slowly", lambda: slow)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


AMX, XEON, ZEN = (True, True, False), (False, False, False), (False, True, True)


@pytest.mark.parametrize(
    ("kind", "dtype", "rate", "chosen"),
    [
        (XEON, torch.bfloat16, 2, (False, False, False)),
        (XEON, torch.bfloat16, 6, (False, False, True)),
        (XEON, torch.float32, 6, (False, False, True)),
        (ZEN, torch.bfloat16, 6, (False, False, True)),
        (ZEN, torch.float32, 6, (False, False, False)),
        (ZEN, torch.float32, 12, (False, False, True)),
        (AMX, torch.bfloat16, 2, (False, False, False)),
        (AMX, torch.bfloat16, 12, (True, True, True)),
        (AMX, torch.float32, 2, (False, False, False)),
        (AMX, torch.float32, 12, (False, False, True)),
        (AMX, torch.float64, 12, (False, False, False)),
    ],
)
def test_the_rule_takes_what_was_measured_to_be_quicker(kind, dtype, rate, chosen, monkeypatch):
    processor(monkeypatch, *kind)
    x, weight = torch.empty(4, 2048, 21, 21, dtype=dtype), torch.empty(256, 2048, 3, 3, dtype=dtype)
    assert atrous_conv._quicker(x, weight, rate, dtype) == atrous_conv.Ours(*chosen)
    assert atrous_conv._quicker(x[:1, :32], weight[:, :32], rate, dtype) == atrous_conv.Ours(False, False, False)


@pytest.mark.parametrize(
    ("kind", "side", "dtype", "chosen"),
    [
        (ZEN, 41, torch.bfloat16, True),
        (ZEN, 21, torch.bfloat16, False),
        (ZEN, 41, torch.float32, False),
        (XEON, 41, torch.bfloat16, False),
        (AMX, 41, torch.bfloat16, False),
    ],
)
def test_the_gradient_of_a_1x1_kernel_is_one_product_on_large_maps(kind, side, dtype, chosen, monkeypatch):
    processor(monkeypatch, *kind)
    x, weight = torch.empty(4, 512, side, side), torch.empty(256, 512, 1, 1)
    assert atrous_conv._quicker(x, weight, 1, dtype) == atrous_conv.Ours(False, False, chosen)


@pytest.mark.parametrize("rate", [1, 3])
def test_a_1x1_kernel_whose_gradient_is_one_product(rate, monkeypatch):
    processor(monkeypatch, *ZEN)
    monkeypatch.setattr(atrous_conv, "_LEAST_CHANNELS", 1)
    monkeypatch.setattr(atrous_conv, "_LEAST_1X1_WORK", 1)
    tensors = [torch.randn(shape).bfloat16() for shape in ((2, 6, 5, 7), (4, 6, 1, 1), (4,))]
    grad = torch.randn(2, 4, 5, 7).bfloat16()
    mine, exact = (with_gradients(convolve, grad, tensors, rate) for convolve in (whole, theirs))
    for a, b in zip(mine, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.05)


def whole(x, weight, bias, rate):
    out = atrous_conv2d(x, weight, bias, rate)
    assert type(out.grad_fn).__name__ == "_AtrousConv2dBackward"
    return out


def test_measuring_does_not_depend_on_autocast():
    """The processor is asked in the two types themselves, wherever the question comes up first."""
    with torch.autocast("cpu", torch.bfloat16):
        out = []
        atrous_conv._seconds(lambda a, b: out.append(atrous_conv._pointwise(a, b)), torch.float32)
    assert {each.dtype for each in out} == {torch.float32}
    a, b = torch.randn(1024, 256), torch.randn(256, 256)
    torch.testing.assert_close(
        atrous_conv._pointwise(a, b).permute(0, 2, 3, 1).reshape(1024, 256), a @ b.t(), rtol=0, atol=1e-3
    )


def test_float32s_output_is_torchs_own_to_the_bit(eager):
    """In inference and in training."""
    x, weight = torch.randn(1, 4, 6, 6), torch.randn(3, 4, 3, 3, requires_grad=True)
    with torch.no_grad():
        inferred = atrous_conv2d(x, weight, rate=5)
    trained = atrous_conv2d(x, weight, rate=5)
    assert torch.equal(inferred, trained)
    assert torch.equal(inferred, theirs(x, weight, None, 5))
    assert type(trained.grad_fn).__name__ == "_AtrousConv2dBackward"
    assert type(atrous_conv2d(x, weight, rate=1).grad_fn).__name__ == "ConvolutionBackward0"


@pytest.mark.parametrize("rate", [2, 5])
def test_bfloat16_is_taken_as_float32_where_that_is_quicker(rate, monkeypatch):
    """Rounded once: the output and the gradients are float32's to the bit, under autocast too."""
    processor(monkeypatch, *XEON)
    tensors = [torch.randn(shape).bfloat16() for shape in ((2, 4, 9, 9), (3, 4, 3, 3), (3,))]
    grad = torch.randn(2, 3, 9, 9).bfloat16()
    wide = with_gradients(theirs, grad.float(), [tensor.float() for tensor in tensors], rate)
    for enabled in (False, True):
        with torch.autocast("cpu", enabled=enabled):
            mine = with_gradients(lambda *given: atrous_conv2d(*given[:3], rate=given[3]), grad, tensors, rate)
            with torch.no_grad():
                inferred = atrous_conv2d(*tensors, rate=rate)
        assert torch.equal(inferred, wide[0].bfloat16())
        for a, b in zip(mine, wide, strict=True):
            torch.testing.assert_close(a, b.bfloat16(), rtol=0, atol=0)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="no centre"):
        atrous_conv2d(torch.randn(1, 2, 4, 4), torch.randn(2, 2, 2, 2), rate=2)


class Layers(nn.Sequential):
    def __init__(self):
        super().__init__(AtrousConv2d(4, 6, 3, rate=3, bias=True), AtrousConv2d(6, 2, 3, rate=8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_and_exported_it_is_torchs(eager):
    """One graph, made of convolutions."""
    model, x = Layers().bfloat16().eval(), torch.randn(1, 4, 9, 9).bfloat16()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    program = torch.export.export(model, (x,))
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called == [torch.ops.aten.conv2d.default] * 2
    traced = torch.jit.trace(model, x)
    assert str(traced.inlined_graph).count("aten::_convolution") == 2
    for other in (compiled, program.module(), traced):
        torch.testing.assert_close(other(x), model(x), rtol=0.05, atol=0.02)


def test_layers_take_it_where_it_is_exact(monkeypatch):
    """Stride 1, one group, centred padding, and a rate or a 1×1 kernel; anything else stays with torch."""
    called = []
    monkeypatch.setattr("atrous.layers.conv.atrous_conv2d", lambda *given: called.append(given) or theirs(*given))
    x = torch.randn(1, 4, 9, 9)
    for layer in (
        AtrousConv2d(4, 4, 3),
        AtrousConv2d(4, 4, 1, stride=2),
        AtrousConv2d(4, 4, 1, groups=2),
        AtrousConv2d(4, 4, 3, stride=2, rate=2),
        AtrousConv2d(4, 4, 3, rate=2, groups=2),
        AtrousConv2d(4, 4, 3, rate=2, padding="none"),
    ):
        layer(x)
    assert not called
    AtrousConv2d(4, 4, 3, rate=2)(x)
    AtrousConv2d(4, 4, 3, rate=2, padding="same", bias=True)(x)
    AtrousConv2d(4, 4, 1)(x)
    assert len(called) == 3
