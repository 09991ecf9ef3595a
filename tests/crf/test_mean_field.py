"""The papers' CRF: against brute force, against the plain form of itself, and against pydensecrf."""

import subprocess
import sys

import brute_force
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atrous.crf import CRFParams, mean_field
from atrous.crf.dense import dense_crf
from atrous.errors import AtrousError

PARAMS = (CRFParams(), CRFParams(3, 1, 4, 67, 3), CRFParams(3, 3, 10, 80, 13), CRFParams(2, 7.5, 3, 15, 40))


def plainly(unary, image, params, iterations=10):
    """In float64, kernel by kernel."""
    crf = dense_crf(torch.from_numpy(unary)[None].double(), torch.from_numpy(image)[None], params)
    return crf.infer(iterations)[0].numpy()


@given(
    labels=st.sampled_from([1, 2, 8, 9, 21]),
    size=st.tuples(st.integers(1, 45), st.integers(1, 70)),
    params=st.sampled_from(PARAMS),
    iterations=st.integers(0, 6),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fused_loops_equal_the_plain_form(make_scene, labels, size, params, iterations, seed):
    unary, image = make_scene(labels, *size, seed)
    ours = mean_field(unary, image, params, iterations)
    np.testing.assert_allclose(ours, plainly(unary, image, params, iterations), atol=3e-4)


@pytest.mark.parametrize("params", PARAMS)
def test_close_to_brute_force(make_scene, params):
    """What the lattice and the grid cost: probabilities by .02 on average, and hardly any label."""
    unary, image = make_scene(4, 30, 40)
    exact = brute_force.mean_field(unary, image, params, 10)
    ours = mean_field(unary, image, params)
    assert np.abs(ours - exact).mean() < 0.02
    assert (ours.argmax(0) == exact.argmax(0)).mean() > 0.98
    alone = unary.argmin(0)
    assert (alone == exact.argmax(0)).mean() < 0.9  # there was something to do


@pytest.mark.parametrize("params", PARAMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_pydensecrf_gives_the_same_labels(make_scene, densecrf, params, seed):
    labels, height, width = 6, 90, 121
    unary, image = make_scene(labels, height, width, seed)
    theirs = densecrf.DenseCRF2D(width, height, labels)
    theirs.setUnaryEnergy(unary.reshape(labels, -1))
    theirs.addPairwiseGaussian(sxy=params.gaussian_sxy, compat=params.gaussian_weight)
    theirs.addPairwiseBilateral(
        sxy=params.bilateral_sxy, srgb=params.bilateral_srgb, rgbim=image, compat=params.bilateral_weight
    )
    expected = np.array(theirs.inference(10)).reshape(unary.shape)
    ours = mean_field(unary, image, params)
    assert (ours.argmax(0) == expected.argmax(0)).mean() >= 0.995
    assert np.abs(ours - expected).mean() < 0.01


def test_the_result_is_the_same_for_any_number_of_threads(make_scene):
    unary, image = make_scene(5, 60, 50)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(mean_field(unary, image))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_labels_that_are_nowhere_probable_can_be_left_out(make_scene):
    unary, image = make_scene(5, 60, 70)
    worse = 4 + 0.1 * np.arange(16)[:, None, None] + np.random.default_rng(0).random((16, 60, 70))
    unary = np.concatenate([unary, unary.min(0) + worse]).astype(np.float32)
    full, pruned = mean_field(unary, image), mean_field(unary, image, prune=0.01)
    left_out = (pruned == 0).all((1, 2))
    np.testing.assert_array_equal(left_out, (unary - unary.min(0)).min((1, 2)) > -np.log(0.01))
    assert 3 < left_out.sum() < 16
    params = CRFParams()
    weight = params.gaussian_weight + params.bilateral_weight
    most = max(brute_force.normalised(each).sum(1).max() for each in brute_force.kernels(image[:40, :40], params))
    assert full[left_out].max() <= 0.01 / (1 - weight * most * 0.01)  # the bound that the documentation states
    assert (full.argmax(0) == pruned.argmax(0)).mean() >= 0.999
    np.testing.assert_allclose(pruned.sum(0), 1, rtol=1e-5)


def test_impossible_labels_stay_impossible(make_scene):
    unary, image = make_scene(4, 30, 40)
    unary[0] = np.inf
    unary[1, :, :20] = np.inf
    q = mean_field(unary, image)
    assert (q[0] == 0).all()
    assert (q[1, :, :20] == 0).all()
    np.testing.assert_allclose(q, plainly(unary, image, CRFParams()), atol=1e-4)
    np.testing.assert_allclose(mean_field(unary.astype(float), image), q, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1)])
def test_images_of_a_pixel_or_a_line(make_scene, size):
    unary, image = make_scene(3, *size)
    exact = brute_force.mean_field(unary, image, CRFParams(), 10)
    np.testing.assert_allclose(mean_field(unary, image), exact, atol=0.1)
    if size == (1, 1):  # a pixel that hears itself alone
        np.testing.assert_allclose(mean_field(unary, image), exact, atol=1e-6)


def test_one_label_has_it_all(make_scene):
    unary, image = make_scene(1, 10, 12)
    assert (mean_field(unary, image) == 1).all()


def test_without_weights_or_iterations_it_is_the_softmax(make_scene):
    unary, image = make_scene(3, 20, 30)
    expected = brute_force.softmax(unary.astype(float))
    np.testing.assert_allclose(mean_field(unary, image, iterations=0), expected, atol=1e-6)
    np.testing.assert_allclose(mean_field(unary, image, CRFParams(0, 3, 0, 67, 3)), expected, atol=1e-6)


def test_kernels_too_narrow_for_the_keys_fall_back(make_scene):
    unary, image = make_scene(3, 20, 30)
    narrow = CRFParams(0, 3, 4, 0.001, 0.001)  # a pixel hears itself alone
    q = brute_force.softmax(unary.astype(float))
    for _ in range(10):
        q = brute_force.softmax(unary - 4 * q)
    np.testing.assert_allclose(mean_field(unary, image, narrow), q, atol=1e-4)


def test_a_batch_and_tensors_give_what_single_arrays_do(make_scene):
    scenes = [make_scene(4, 25, 30, seed) for seed in (0, 1)]
    unary, images = (np.stack(each) for each in zip(*scenes, strict=True))
    together = mean_field(torch.from_numpy(unary), torch.from_numpy(images))
    assert isinstance(together, torch.Tensor)
    for one, (energies, image) in zip(together, scenes, strict=True):
        np.testing.assert_array_equal(one.numpy(), mean_field(energies, image))
    doubled = mean_field(unary.astype(float), images)
    assert doubled.dtype == np.float64
    np.testing.assert_allclose(doubled, together.numpy(), atol=3e-4)


U, IMAGE = np.zeros((2, 4, 5), np.float32), np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("unary", "image", "options", "message"),
    [
        (U, IMAGE[:3], {}, "shapes"),
        (U[0], IMAGE, {}, "shapes"),
        (U[:0], IMAGE, {}, "shapes"),
        (U[:, :, :0], IMAGE[:, :0], {}, "shapes"),
        (U, IMAGE.astype(float), {}, "uint8"),
        (np.where(np.arange(5) == 2, np.nan, U), IMAGE, {}, "NaN"),
        (np.where(np.arange(5) == 2, -np.inf, U).astype(np.float32), IMAGE, {}, "-inf"),
        (np.where(np.arange(5) == 2, np.nan, U).astype(np.float32), IMAGE, {}, "NaN"),
        (np.where(np.arange(5) == 2, np.inf, U).astype(np.float32), IMAGE, {}, "every label"),
        (U, IMAGE, {"prune": 1}, "prune=1"),
        (U, IMAGE, {"prune": -0.1}, "prune=-0.1"),
        (U, IMAGE, {"iterations": -1}, "iterations=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(unary, image, options, message):
    with pytest.raises(AtrousError, match=message) as raised:
        mean_field(unary, image, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_equals_the_cpu(make_scene):
    unary, image = make_scene(5, 40, 50)
    there = mean_field(torch.from_numpy(unary).cuda(), torch.from_numpy(image))
    np.testing.assert_allclose(there.cpu().numpy(), mean_field(unary, image), atol=3e-4)


def test_once_prepared_nothing_is_left_to_compile():
    """In a process of its own, where no other test has compiled anything."""
    script = """
import sys
import numpy as np
from atrous.crf import mean_field, prepare
prepare(device="meta")
assert "numba" not in sys.modules
prepare()
from numba.core.dispatcher import Dispatcher
modules = [module for name, module in sys.modules.items() if name.startswith("atrous.")]
loops = {id(each): each for module in modules for each in vars(module).values() if isinstance(each, Dispatcher)}
compiled = {each.py_func.__qualname__: len(each.signatures) for each in loops.values()}
random = np.random.default_rng(1)
image = random.integers(0, 256, (47, 66, 3), np.uint8)
for prune in (0.0, 0.01):
    mean_field(random.random((5, 47, 66), dtype=np.float32), image, prune=prune)
assert compiled == {each.py_func.__qualname__: len(each.signatures) for each in loops.values()}
assert sum(map(bool, compiled.values())) > 5
"""
    subprocess.run([sys.executable, "-c", script], check=True)
