"""The Triton kernels against their references: on a GPU, or on the CPU under Triton's interpreter.

`test_triton.py` runs this file under the interpreter; by hand: TRITON_INTERPRET=1 pytest tests/ops/test_cuda.py
"""

import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atrous.ops import Taps, View, atrous_conv, upsample_argmax, upsample_cross_entropy
from atrous.ops.average import reference_average
from atrous.ops.upsample import reference_argmax, reference_cross_entropy

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("no GPU, and not under Triton's interpreter", allow_module_level=True)

from atrous.ops import argmax_cuda, atrous_conv_cuda, average_cuda, cross_entropy_cuda  # noqa: E402

DEVICE = "cpu" if INTERPRETED else "cuda"
few = settings(max_examples=6 if INTERPRETED else 60, deadline=None)
on_a_gpu = pytest.mark.skipif(INTERPRETED, reason="says nothing under the interpreter")

coarse_sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))
sizes = st.tuples(st.integers(1, 9), st.integers(1, 12))
dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float16])
seeds = st.integers(0, 99)


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def laid_out(logits, seed):
    """In one of the memory layouts that logits come in."""
    if seed % 3 == 0:
        return logits.contiguous(memory_format=torch.channels_last)
    return logits.repeat_interleave(2, 3)[..., ::2] if seed % 3 == 1 else logits


def labelled(seed, classes, shape, ignore_index=255, dtype=torch.int64):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = ignore_index
    return target.to(DEVICE, dtype)


@given(coarse=coarse_sizes, size=sizes, classes=st.integers(1, 6), align=st.booleans(), dtype=dtypes, seed=seeds)
@example(coarse=(2, 3), size=(5, 300), classes=2, align=True, dtype=torch.float32, seed=0)  # several strips
@example(coarse=(7, 9), size=(3, 4), classes=3, align=False, dtype=torch.bfloat16, seed=1)  # fewer pixels than logits
@few
def test_labels_are_the_references_to_the_last_bit(coarse, size, classes, align, dtype, seed):
    logits = laid_out(random(seed, 2, classes, *coarse).to(dtype), seed)
    expected = reference_argmax(logits, size, align)
    assert torch.equal(argmax_cuda.label(logits, size, align, size), expected)
    kept = (size[0] + 1) // 2, (size[1] + 1) // 2
    assert torch.equal(argmax_cuda.label(logits, size, align, kept), expected[:, : kept[0], : kept[1]])


@pytest.mark.parametrize("align", [True, False])
def test_what_decides_between_nearly_equal_classes_is_rounded_as_in_the_reference(align):
    logits = random(0, 1, 1, 3, 4) * (1 + 1e-7 * random(1, 1, 4, 3, 4))
    expected = reference_argmax(logits, (13, 29), align)
    assert len(expected.unique()) == 4
    assert torch.equal(argmax_cuda.label(logits, (13, 29), align, (13, 29)), expected)


def test_the_lowest_of_equal_classes_wins():
    logits = random(0, 1, 3, 4, 5)
    twice = argmax_cuda.label(torch.cat([logits, logits], 1), (11, 13), True, (11, 13))
    assert torch.equal(twice, reference_argmax(logits, (11, 13), True))


def loss_and_gradient(logits, target, *options):
    logits = logits.detach().requires_grad_()
    loss = cross_entropy_cuda.cross_entropy(logits, target, *options)[0]
    return loss, *torch.autograd.grad(loss, logits)


def assert_the_references(logits, target, ignore_index, align, weight, hardest, exact):
    """Against the reference in float64, on the very same logits."""
    loss, gradient = loss_and_gradient(logits, target, ignore_index, align, weight, hardest)
    wide = logits.detach().double().requires_grad_()
    expected = reference_cross_entropy(wide, target, ignore_index, align, weight, hardest)
    (slope,) = torch.autograd.grad(expected, wide)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=2e-5, atol=exact)
    assert gradient.dtype == logits.dtype
    rounding = {torch.float32: 1e-4, torch.float16: 1e-3, torch.bfloat16: 5e-3}[logits.dtype]
    # Of a gradient below float16's range not much is left.
    lost = 1e-6 if logits.dtype == torch.float16 else 1e-7
    assert (gradient - slope).norm() <= rounding * slope.norm() + lost * slope.numel() ** 0.5


@given(
    coarse=coarse_sizes, size=sizes, classes=st.integers(1, 6), align=st.booleans(), dtype=dtypes,
    weighted=st.booleans(), hardest=st.sampled_from([1.0, 0.3]), spread=st.sampled_from([1.0, 30.0, 1000.0]),
    seed=seeds,
)  # fmt: skip
@example((2, 2), (4, 150), 2, False, torch.float32, True, 1.0, 1.0, 0)  # several strips, and cells of several parts
@example((2, 2), (3, 5), 35, False, torch.float32, False, 0.3, 1.0, 1)  # several programs share the classes
@example((6, 9), (3, 4), 3, True, torch.float32, True, 1.0, 30.0, 2)  # cells without a pixel
@few
def test_loss_and_gradient_are_the_references(coarse, size, classes, align, dtype, weighted, hardest, spread, seed):
    logits = laid_out((random(seed, 2, classes, *coarse) * spread).to(dtype), seed)
    target = labelled(seed, classes, (2, *size), dtype=torch.uint8 if seed % 2 else torch.int64)
    weight = random(seed, classes).abs() + 0.1 if weighted else None
    if hardest < 1 and spread > 1:
        hardest = 1.0  # which of the nearly equal losses counts is rounding's choice
    assert_the_references(logits, target, 255, align, weight, hardest, 1e-6 * spread)


def test_another_label_may_stand_for_nothing():
    assert_the_references(random(0, 1, 3, 2, 2), labelled(0, 3, (1, 5, 6), -1, torch.int32), -1, True, None, 1.0, 1e-6)


@pytest.mark.parametrize("hardest", [1.0, 0.5])
def test_a_batch_that_is_all_void_gives_no_loss_and_no_gradient(hardest):
    target = torch.full((1, 4, 4), 255, device=DEVICE)
    loss, gradient = loss_and_gradient(random(0, 1, 3, 2, 2), target, 255, True, None, hardest)
    assert loss.item() == 0
    assert not gradient.any()


def test_no_full_size_logits_are_held():
    """Of 21 classes at 17×17 they would be 24 kB; a map of one number a pixel is 1.2."""
    logits = random(0, 1, 21, 3, 3).requires_grad_()
    target = labelled(0, 21, (1, 17, 17), dtype=torch.uint8)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(profile_memory=True, activities=activities) as profile:
        cross_entropy_cuda.cross_entropy(logits, target, 255, True, None, 1.0)[0].backward()
    events = profile.profiler.kineto_results.events()
    taken = [event.nbytes() for event in events if event.name() == "[memory]"]
    assert max(taken) > 1000
    assert sum(size for size in taken if size > 0) < 20e3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torch_compile_takes_them_whole(monkeypatch):
    """As one graph with our operators in it."""
    monkeypatch.setattr("atrous.ops.upsample.takes_triton", lambda _: True)
    called = []

    def backend(graph, _):
        called.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    def both(logits, target):
        return upsample_cross_entropy(logits, target), upsample_argmax(logits, (5, 6))

    logits, target = random(0, 1, 3, 2, 3).requires_grad_(), labelled(0, 3, (1, 5, 6))
    loss, labels = torch.compile(both, backend=backend, fullgraph=True)(logits, target)
    assert [name for name in called if "atrous" in name] == [
        "atrous.upsample_cross_entropy.default", "atrous.upsample_argmax.default"
    ]  # fmt: skip
    eager, gradient = loss_and_gradient(logits, target, 255, True, None, 1.0)
    assert torch.equal(loss, eager)
    assert torch.equal(torch.autograd.grad(loss, logits)[0], gradient)
    assert torch.equal(labels, reference_argmax(logits.detach(), (5, 6), True))


def test_the_operators_are_what_torch_asks_of_one():
    """Schemas, shapes without data, and gradients that are traced."""
    logits, target = random(0, 1, 2, 2, 2).requires_grad_(), labelled(0, 2, (1, 3, 4))
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    torch.library.opcheck(cross_entropy_cuda.cross_entropy, (logits, target, 255, True, None, 1.0), test_utils=checks)
    torch.library.opcheck(argmax_cuda.compiled_label, (logits.detach(), (3, 4), True, (2, 4)), test_utils=checks)


def taps(size, coarse, seed):
    """Any ascending places, as a scale and padding give them."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.rand(size, generator=generator, dtype=torch.float64).sort().values * (coarse - 1)
    lower = position.floor().long()
    return Taps(*(each.to(DEVICE) for each in (lower, (lower + 1).clamp(max=coarse - 1), (position - lower).float())))


def mirrored(along):
    return Taps(*(each.flip(0) for each in along))


def averaged(groups, scores=True):
    n, classes = groups[0][0].logits.shape[:2]
    size = len(groups[0][0].rows.lower), len(groups[0][0].columns.lower)
    labels = torch.empty((n, *size), dtype=torch.uint8, device=DEVICE)
    means = torch.empty((n, classes, *size), device=DEVICE) if scores else None
    average_cuda.average(groups, labels, means)
    return labels, means


@given(
    classes=st.sampled_from([1, 2, 5, 40]),
    size=sizes,
    coarse=st.lists(coarse_sizes, min_size=1, max_size=2),
    flip=st.booleans(),
    spread=st.sampled_from([1.0, 1000.0]),
    seed=seeds,
)
@few
def test_the_mean_over_views_is_the_references(classes, size, coarse, flip, spread, seed):
    groups = []
    for index, (h, w) in enumerate(coarse):
        rows, columns = taps(size[0], h, seed), taps(size[1], w, seed + 1)
        logits = random(seed + index, 2, 2, classes, h, w) * spread
        group = [View(logits[0], rows, columns), View(logits[1], rows, mirrored(columns))]
        groups.append(group if flip else group[:1])
    labels, means = averaged(groups)
    expected = torch.cat([mean for _, mean in reference_average(groups)], 2)
    torch.testing.assert_close(means, expected, rtol=1e-4 * max(1, spread / 50), atol=1e-6 * spread)
    assert torch.equal(labels.long(), means.max(1).indices)
    assert torch.equal(averaged(groups, scores=False)[0], labels)


def test_mirrored_views_give_the_mirrored_mean_to_the_last_bit():
    rows, columns = taps(4, 3, 0), taps(9, 4, 1)
    one, other = random(2, 1, 3, 3, 4), random(3, 1, 3, 3, 4)
    straight = averaged([[View(one, rows, columns), View(other, rows, mirrored(columns))]] * 2)[1]
    swapped = averaged([[View(other, rows, columns), View(one, rows, mirrored(columns))]] * 2)[1]
    assert torch.equal(swapped, straight.flip(3))


@given(
    batch=st.integers(1, 3), side=st.tuples(st.integers(1, 9), st.integers(1, 9)), rate=st.integers(1, 10),
    biased=st.booleans(), seed=seeds,
)  # fmt: skip
@example(batch=2, side=(9, 8), rate=3, biased=True, seed=0)  # tiles that end within a rectangle
@few
def test_the_convolution_and_its_gradients_are_torchs(batch, side, rate, biased, seed):
    """In float16: the interpreter's products know no bfloat16."""
    shapes = (batch, 64, *side), (128, 64, 3, 3), (batch, 128, *side), (128,)
    x, weight, grad, bias = ((random(seed + n, *shape) / 8).half() for n, shape in enumerate(shapes))
    x, grad = laid_out(x, seed), laid_out(grad, seed + 1)
    assert atrous_conv_cuda.fits(weight, x.dtype)
    exact = F.conv2d(x.float(), weight.float(), bias.float() if biased else None, 1, rate, rate)
    out = atrous_conv_cuda.convolve(x.permute(0, 2, 3, 1), weight, bias if biased else None, rate)
    torch.testing.assert_close(out.permute(0, 3, 1, 2).float(), exact, rtol=2e-3, atol=2e-3)
    slope = torch.nn.grad.conv2d_input(x.shape, weight.float(), grad.float(), 1, rate, rate)
    found = atrous_conv_cuda.convolve(grad.permute(0, 2, 3, 1), weight.transpose(0, 1), None, -rate)
    torch.testing.assert_close(found.permute(0, 3, 1, 2).float(), slope, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("changed", [{"dtype": torch.float32}, {"channels": 48}, {"kernel": 5}])
def test_other_convolutions_are_left_alone(changed):
    problem = {"dtype": torch.float16, "channels": 64, "kernel": 3, **changed}
    x = torch.zeros(1, problem["channels"], 5, 5, dtype=problem["dtype"])
    weight = torch.zeros(64, problem["channels"], problem["kernel"], problem["kernel"], dtype=problem["dtype"])
    assert not atrous_conv_cuda.fits(weight, x.dtype)


@on_a_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_rule_decides_which_convolutions_are_ours(dtype, monkeypatch):
    monkeypatch.setattr(atrous_conv, "_ON_A_GPU", {dtype: (6, atrous_conv.Ours(True, True, True))})
    x, weight = random(0, 2, 64, 13, 13).requires_grad_(), random(1, 64, 64, 3, 3).requires_grad_()
    for rate, ours in ((5, False), (6, True)):
        with torch.autocast(DEVICE, dtype):
            out = atrous_conv.atrous_conv2d(x, weight, rate=rate)
        assert (type(out.grad_fn).__name__ == "_AtrousConv2dBackward") == ours
        exact = F.conv2d(x, weight, None, 1, rate, rate)
        slopes = torch.autograd.grad(exact.sum(), (x, weight))
        for mine, true in zip(
            (out, *torch.autograd.grad(out.float().sum(), (x, weight))), (exact, *slopes), strict=True
        ):
            assert (mine - true).norm() <= 1e-2 * true.norm()


@on_a_gpu
def test_the_public_functions_take_the_kernels(monkeypatch):
    called = []
    for module, name in ((argmax_cuda, "label"), (cross_entropy_cuda, "cross_entropy")):
        plain = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, plain=plain: called.append(plain) or plain(*given))
    upsample_argmax(random(0, 1, 3, 2, 2), (5, 5))
    upsample_cross_entropy(random(0, 1, 3, 2, 2), labelled(0, 3, (1, 5, 5)))
    assert len(called) == 2


@on_a_gpu
def test_the_same_bits_every_time():
    logits, target = random(0, 4, 21, 33, 33), labelled(0, 21, (4, 513, 513))
    first, second = (loss_and_gradient(logits, target, 255, True, None, 0.3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@on_a_gpu
def test_batches_beyond_32_bits_are_reached():
    """The second image lies more than 2³¹ numbers behind the first."""
    near = random(0, 2, 3, 5, 6).bfloat16()
    far = torch.empty_strided(near.shape, (2**31 + 16, 30, 6, 1), dtype=torch.bfloat16, device=DEVICE).copy_(near)
    target = labelled(0, 3, (2, 33, 41))
    assert torch.equal(*(argmax_cuda.label(logits, (33, 41), True, (33, 41)) for logits in (near, far)))
    losses = (loss_and_gradient(logits, target, 255, True, None, 1.0) for logits in (near, far))
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))
