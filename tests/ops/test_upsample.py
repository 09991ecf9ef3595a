"""The fused ends of the network against torch's own separate steps."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.ops import upsample_argmax, upsample_cross_entropy
from atrous.ops.softmax_cpu import exp
from atrous.ops.upsample import reference_argmax, reference_cross_entropy

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
big = st.tuples(st.integers(1, 150), st.integers(1, 40))


@given(coarse=sizes, size=big, classes=st.integers(1, 6), align=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_argmax_equals_interpolate_then_argmax(coarse, size, classes, align, seed):
    logits = torch.randn(2, classes, *coarse, generator=torch.Generator().manual_seed(seed))
    full = F.interpolate(logits.double(), size, mode="bilinear", align_corners=align)
    labels = upsample_argmax(logits, size, align)
    # Whichever class wins, its exact logit is the largest, but for rounding.
    won = full.gather(1, labels.long()[:, None])[:, 0]
    assert labels.shape == (2, *size)
    assert torch.all(won >= full.amax(1) - 1e-5)


@given(crop=st.tuples(st.integers(1, 70), st.integers(1, 81)), align=st.booleans())
@settings(max_examples=20, deadline=None)
def test_crop_is_the_top_left_of_the_whole(crop, align):
    logits = torch.randn(1, 4, 9, 11, generator=torch.Generator().manual_seed(0))
    whole = upsample_argmax(logits, (70, 81), align)
    assert torch.equal(upsample_argmax(logits, (70, 81), align, crop=crop), whole[:, : crop[0], : crop[1]])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_module_computes_labels_of_what_it_is_given(monkeypatch):
    """The loop hands numpy its memory, which a trace would keep as a constant."""
    monkeypatch.setattr("atrous.ops.upsample._loop_pays", lambda work: True)
    first, second = torch.randn(2, 1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    traced = torch.jit.trace(lambda logits: upsample_argmax(logits, (33, 41)), first, check_trace=False)
    assert torch.equal(traced(second), upsample_argmax(second, (33, 41)))


def test_the_lowest_of_equal_classes_wins():
    assert upsample_argmax(torch.zeros(1, 5, 3, 3), (7, 7)).max() == 0
    logits = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    twice = upsample_argmax(torch.cat([logits, logits], 1), (31, 33))
    assert torch.equal(twice, upsample_argmax(logits, (31, 33)))


@given(
    coarse=sizes, size=big, classes=st.sampled_from([1, 2, 19, 21, 256]), align=st.booleans(), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_the_cpus_loop_equals_the_reference(coarse, size, classes, align, seed):
    """To the last bit, so that either may take a photo: on few large regions, with cells of one class, and on noise."""
    generator = torch.Generator().manual_seed(seed)
    for logits in (
        torch.randn(2, classes, *coarse, generator=generator),
        F.interpolate(torch.randn(2, classes, 2, 2, generator=generator), coarse, mode="bilinear"),
    ):
        assert torch.equal(upsample_argmax(logits, size, align), reference_argmax(logits, size, align))


def test_the_first_few_photos_do_not_wait_for_numba():
    code = (
        "import sys, torch; from atrous.ops import upsample_argmax as f; x = torch.zeros(1, 3, 9, 9);"
        "f(x, (129, 129)); print('numba' in sys.modules);"
        "[f(x, (1025, 1025)) for _ in range(7)]; print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@given(coarse=sizes, align=st.booleans(), weighted=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_equals_torch_on_full_size_logits(coarse, align, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, *coarse, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.randint(0, 5, (2, 17, 23), generator=generator, dtype=torch.uint8)
    target[torch.rand(target.shape, generator=generator) < 0.3] = 255
    weight = torch.rand(5, dtype=torch.float64, generator=generator) + 0.1 if weighted else None
    loss = upsample_cross_entropy(logits, target, align_corners=align, weight=weight)
    full = F.interpolate(logits, (17, 23), mode="bilinear", align_corners=align)
    expected = F.cross_entropy(full, target.long(), weight=weight, ignore_index=255)
    torch.testing.assert_close(loss, expected)
    (ours,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(ours, theirs)


@given(
    coarse=sizes,
    size=big,
    classes=st.integers(1, 30),
    align=st.booleans(),
    weighted=st.booleans(),
    spread=st.sampled_from([1.0, 30.0, 1000.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_the_cpus_loop_gives_the_references_loss_and_gradient(coarse, size, classes, align, weighted, spread, seed):
    """In float32 against the reference in float64; with logits so far apart that exponentials vanish, too."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(2, classes, *coarse, generator=generator) * spread).requires_grad_()
    target = torch.randint(0, classes, (2, *size), generator=generator, dtype=torch.uint8)
    target[torch.rand(target.shape, generator=generator) < 0.3] = 255
    options = {"align_corners": align, "weight": torch.rand(classes, generator=generator) + 0.1 if weighted else None}
    loss = upsample_cross_entropy(logits, target, **options)
    wide = logits.detach().double().requires_grad_()
    expected = reference_cross_entropy(wide, target, **options)
    torch.testing.assert_close(loss.double(), expected, rtol=2e-5, atol=1e-6 * spread)
    (ours,) = torch.autograd.grad(loss, logits)
    (theirs,) = torch.autograd.grad(expected, wide)
    assert (ours - theirs).norm() <= 1e-4 * theirs.norm() + 1e-7


def test_the_gradient_is_the_losss_own_slope():
    logits = torch.randn(
        1, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    target = torch.randint(0, 4, (1, 9, 17), generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: reference_cross_entropy(x, target), logits)


def test_mining_counts_the_hardest_pixels_alone():
    logits = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (1, 20, 20), generator=torch.Generator().manual_seed(1))
    full = F.interpolate(logits, (20, 20), mode="bilinear", align_corners=True)
    losses = F.cross_entropy(full, target, reduction="none").flatten().sort(descending=True).values
    for mined in (upsample_cross_entropy, reference_cross_entropy):
        torch.testing.assert_close(mined(logits, target, hardest=0.25), losses[:100].mean())
    logits.requires_grad_()
    (ours,) = torch.autograd.grad(upsample_cross_entropy(logits, target, hardest=0.25), logits)
    (theirs,) = torch.autograd.grad(reference_cross_entropy(logits, target, hardest=0.25), logits)
    torch.testing.assert_close(ours, theirs)


def test_no_full_size_logits_are_held():
    """Of 21 classes at 513×513 they would be 22 MB, and their gradient as much again."""
    logits = torch.randn(1, 21, 129, 129, requires_grad=True)
    target = torch.randint(0, 21, (1, 513, 513))
    with torch.profiler.profile(profile_memory=True) as profile:
        upsample_cross_entropy(logits, target).backward()
    assert max(event.self_cpu_memory_usage for event in profile.key_averages()) < 8e6


@pytest.mark.parametrize("label", [3, 254, -1])
def test_a_label_that_is_no_class_is_refused(label):
    target = torch.full((1, 8, 8), label)
    with pytest.raises(AtrousError, match=f"the target holds {label}: labels are 0 to 2, or 255 where ignored"):
        upsample_cross_entropy(torch.randn(1, 3, 2, 2), target)


@pytest.mark.parametrize("hardest", [0, 1.5])
def test_an_impossible_share_is_refused(hardest):
    with pytest.raises(AtrousError, match="is not a share of the pixels"):
        upsample_cross_entropy(torch.randn(1, 3, 2, 2), torch.zeros(1, 8, 8, dtype=torch.long), hardest=hardest)


@given(x=st.floats(-200, 0, width=32))
@settings(deadline=None)
def test_the_exponential_is_right_to_three_units_in_the_last_place(x):
    expected = math.exp(x)
    assert float(exp(np.float32(x))) == pytest.approx(expected, rel=4e-7, abs=1.7e-38)


@pytest.mark.parametrize("weight", [None, torch.ones(3)])
def test_a_batch_that_is_all_void_gives_no_loss_and_no_gradient(weight):
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = upsample_cross_entropy(logits, torch.full((1, 8, 8), 255), weight=weight)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_the_loss_is_taken_in_float32_from_half_precision_logits():
    logits = torch.randn(1, 3, 4, 4)
    target = torch.randint(0, 3, (1, 8, 8))
    half = upsample_cross_entropy(logits.bfloat16(), target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, upsample_cross_entropy(logits.bfloat16().float(), target))
