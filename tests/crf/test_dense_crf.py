"""The CRF with any kernels, compatibilities and normalisations, and the layer that is trained."""

import brute_force
import numpy as np
import pytest
import torch

from atrous.crf import CRFAsRNN, CRFParams, DenseCRF, mean_field
from atrous.crf.dense import Kernel, dense_crf
from atrous.errors import AtrousError

NORMALISATIONS = ("none", "before", "after", "symmetric")


def test_with_a_brute_force_filter_it_is_brute_force(make_scene):
    unary, image = make_scene(4, 15, 20)
    params = CRFParams(3, 3, 4, 10, 20)
    energies = torch.from_numpy(unary).double()
    crf = DenseCRF(energies)
    ones = torch.ones(1, 1, 15, 20, dtype=torch.float64)
    weights = params.gaussian_weight, params.bilateral_weight
    for matrix, weight in zip(brute_force.kernels(image, params), weights, strict=True):
        matrix = torch.from_numpy(matrix)
        crf.add_kernel(Kernel(lambda q, m=matrix: (q.flatten(2) @ m).view(q.shape), ones), weight)
    expected = brute_force.mean_field(unary, image, params, 10)
    np.testing.assert_allclose(crf.infer(10).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("form", ["number", "diagonal", "matrix"])
def test_pydensecrf_gives_the_same(make_scene, densecrf, normalisation, form):
    labels, height, width = 3, 30, 35
    unary, image = make_scene(labels, height, width)
    random = np.random.default_rng(0)
    given = {
        "number": 0.4,
        "diagonal": random.uniform(0.1, 0.5, labels),
        "matrix": np.array([[-0.3, 0.1, 0.2], [0.1, -0.1, 0.3], [0.2, 0.3, -0.2]]),  # theirs makes it symmetric
    }[form]
    # Their diagonal is a price, ours is paid.
    theirs_given = -given if form == "diagonal" else given
    theirs = densecrf.DenseCRF(height * width, labels)
    theirs.setUnaryEnergy(unary.reshape(labels, -1))
    y, x = np.mgrid[:height, :width]
    features = np.concatenate([np.stack([x, y], -1) / 8, image / 30.0], -1).reshape(-1, 5).astype(np.float32)
    method = {"none": densecrf.NO_NORMALIZATION} | {
        name: getattr(densecrf, f"NORMALIZE_{name.upper()}") for name in NORMALISATIONS[1:]
    }
    theirs.addPairwiseEnergy(
        np.ascontiguousarray(features.T),
        compat=theirs_given if form == "number" else theirs_given.astype(np.float32),
        normalization=method[normalisation],
    )
    expected = np.array(theirs.inference(5)).reshape(unary.shape)
    ours = DenseCRF(torch.from_numpy(unary))
    ours.add_features(torch.from_numpy(features), torch.as_tensor(given), normalisation)
    np.testing.assert_allclose(ours.infer(5).numpy(), expected, atol=5e-3)
    assert np.abs(expected - brute_force.softmax(unary)).max() > 0.05


def test_three_ways_to_say_potts(make_scene):
    unary, image = make_scene(3, 20, 25)
    results = []
    for compatibility in (4.0, torch.full((3,), 4.0), 4 * (1 - torch.eye(3))):
        crf = DenseCRF(torch.from_numpy(unary).double())
        crf.add_bilateral(torch.from_numpy(image), 10, 10, compatibility)
        results.append(crf.infer(10))
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2], rtol=0, atol=0.02)  # the filter of ones is only close to one


def test_each_step_comes_closer_to_the_distribution(make_scene):
    unary, image = make_scene(4, 30, 40)
    crf = dense_crf(torch.from_numpy(unary)[None].double(), torch.from_numpy(image)[None], CRFParams())
    found = [crf.kl()]
    for _ in range(6):
        crf.step()
        found.append(crf.kl())
    assert (np.diff(found) < 0).all()
    assert abs(found[-1] - found[-2]) < 0.2 * abs(found[1] - found[0])


def test_the_kl_is_that_of_brute_force(make_scene):
    unary, image = make_scene(3, 10, 12)
    params = CRFParams(3, 1, 4, 10, 20)
    spatial, bilateral = (brute_force.normalised(each) for each in brute_force.kernels(image, params))
    crf = DenseCRF(torch.from_numpy(unary).double())
    matrix = torch.from_numpy(3 * spatial + 4 * bilateral)
    ones = torch.ones(1, 1, 10, 12, dtype=torch.float64)
    crf.add_kernel(Kernel(lambda q: (q.flatten(2) @ matrix).view(q.shape), ones, "none"), 1.0)
    q = crf.infer(2).flatten(1).numpy()
    expected = (q * np.log(q)).sum() + (q * unary.reshape(3, -1)).sum() - 0.5 * np.einsum("kp,kq,pq->", q, q, matrix)
    assert crf.kl() == pytest.approx(expected, rel=1e-9)


def test_volumes_and_batches(make_scene):
    """Four dimensions of features over a volume; a batch of them equals each by itself."""
    random = torch.Generator().manual_seed(0)
    unary = torch.rand(2, 3, 4, 5, 6, dtype=torch.float64, generator=random) * 3
    features = torch.rand(2, 120, 4, dtype=torch.float64, generator=random) * 3
    together = DenseCRF(unary, batched=True)
    together.add_features(features, 2.0)
    result = together.infer(4)
    for one, energies, places in zip(result, unary, features, strict=True):
        alone = DenseCRF(energies)
        alone.add_features(places, 2.0)
        torch.testing.assert_close(alone.infer(4), one)
    assert result.shape == unary.shape


def test_the_layer_begins_as_the_papers_crf(make_scene):
    unary, image = make_scene(4, 20, 30)
    layer = CRFAsRNN(4, iterations=10)
    refined = layer(-torch.from_numpy(unary)[None], torch.from_numpy(image)[None])
    np.testing.assert_allclose(refined.softmax(1)[0].detach().numpy(), mean_field(unary, image), atol=3e-4)


def test_gradients_of_the_layer(make_scene):
    _, image = make_scene(3, 5, 6)
    layer = CRFAsRNN(3, CRFParams(3, 2, 4, 5, 20), iterations=3).double()
    logits = torch.randn(1, 3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def refined(logits, weights, compatibility):
        parameters = {"weights": weights, "compatibility": compatibility}
        return torch.func.functional_call(layer, parameters, (logits, torch.from_numpy(image)[None]))

    inputs = (logits.requires_grad_(), layer.weights, layer.compatibility)
    assert torch.autograd.gradcheck(refined, inputs)


def test_training_the_layer_learns_from_which_kernel_to_hear(make_scene):
    unary, image = make_scene(3, 24, 36)
    truth = torch.from_numpy(mean_field(unary, image, CRFParams(0, 3, 8, 67, 13)).argmax(0))[None]
    layer = CRFAsRNN(3, CRFParams(1, 3, 1, 67, 13), iterations=3)
    logits, images = -torch.from_numpy(unary)[None], torch.from_numpy(image)[None]
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(layer(logits, images), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert layer.weights[1].mean() > layer.weights[0].mean()


def crf():
    return DenseCRF(torch.zeros(2, 4, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DenseCRF(torch.zeros(3)), "shape"),
        (lambda: DenseCRF(torch.full((2, 3), torch.nan)), "NaN"),
        (lambda: crf().add_gaussian(0, 3), "sxy=0"),
        (lambda: crf().add_bilateral(torch.zeros(4, 5, 3), 3, -1, 3), "srgb=-1"),
        (lambda: crf().add_bilateral(torch.zeros(5, 4, 3), 3, 3, 3), "image of shape"),
        (lambda: crf().add_features(torch.zeros(19, 2), 3), "features of shape"),
        (lambda: crf().add_features(torch.zeros(20, 2), torch.zeros(3)), "compatibility of shape"),
        (lambda: crf().add_features(torch.zeros(20, 2), float("nan")), "finite"),
        (lambda: crf().add_features(torch.zeros(20, 2), 3, "both"), "normalisation='both'"),
        (lambda: DenseCRF(torch.zeros(2, 20)).add_gaussian(3, 3), "for images"),
        (lambda: crf().infer(-1), "iterations=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(AtrousError, match=message):
        call()
