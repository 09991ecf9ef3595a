"""The lattice: our loops against plain torch, both against the exact Gaussian."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.ops import Permutohedral, permutohedral, permutohedral_cpu
from atrous.ops.permutohedral import Lattice, number_vertices


@pytest.fixture(autouse=True)
def several_bands(monkeypatch):
    monkeypatch.setattr(permutohedral_cpu, "_BAND", 40)


def exact(features, values):
    return torch.exp(-(torch.cdist(features, features) ** 2) / 2) @ values


def smooth_photo(height, width):
    """Features of a photo with regions and a little noise, as the papers' kernel has them."""
    random = np.random.default_rng(0)
    regions = np.kron(random.integers(40, 200, (height // 10, width // 10, 3)), np.ones((10, 10, 1)))
    colours = torch.from_numpy(regions + random.normal(0, 2, regions.shape))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.cat([torch.stack([x, y], -1) / 20, colours / 10], -1).reshape(-1, 5).double()


@given(
    d=st.sampled_from([1, 2, 5, 16]),
    sets=st.integers(1, 3),
    points=st.integers(1, 150),
    channels=st.sampled_from([1, 8, 21]),
    spread=st.sampled_from([0.3, 2.0, 30.0]),
    reverse=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_the_loops_equal_the_reference(d, sets, points, channels, spread, reverse, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(sets, points, d, generator=generator) * spread
    values = torch.randn(sets, points, channels, generator=generator)
    ours = Permutohedral(features).filter(values, reverse)
    reference = Lattice(features.double(), None).apply(values.flatten(0, 1).double(), reverse)
    # A point that lies on the border of two simplices has the same values in both, but for rounding.
    torch.testing.assert_close(ours.flatten(0, 1).double(), reference, rtol=1e-4, atol=1e-4 * (1 + spread))


def test_keys_and_rows_number_the_same_vertices():
    features = torch.randn(2, 200, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    keys = number_vertices(features.amin((0, 1)).numpy(), features.amax((0, 1)).numpy(), 2)
    values = torch.randn(400, 2, dtype=torch.float64)
    torch.testing.assert_close(
        Lattice(features, keys).apply(values, False), Lattice(features, None).apply(values, False)
    )


def test_reversed_it_is_the_transpose():
    lattice = Permutohedral(torch.randn(120, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    matrix = lattice.filter(torch.eye(120, dtype=torch.float64))
    torch.testing.assert_close(lattice.filter(torch.eye(120, dtype=torch.float64), reverse=True), matrix.T)
    assert not torch.allclose(matrix, matrix.T)  # for the lattice has holes


def test_close_to_the_gaussian_where_points_are_dense():
    """The errors that the documentation states, as the norm of the difference over that of the exact matrix."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    plane = torch.stack([x, y], -1).reshape(-1, 2).double() / 3
    for features, plain, normalised in ((plane, 0.18, 0.10), (smooth_photo(30, 40), 0.5, 0.06)):
        eye = torch.eye(len(features), dtype=torch.float64)
        gauss, lattice = exact(features, eye), permutohedral(eye, features)
        assert (lattice - gauss).norm() / gauss.norm() < plain
        ratio = [each / (each.sum(0)[:, None] * each.sum(0)).sqrt() for each in (gauss, lattice)]
        assert (ratio[1] - ratio[0]).norm() / ratio[0].norm() < normalised


def test_ones_are_filtered_to_the_norm():
    features = smooth_photo(20, 30).float()
    keys = number_vertices(features.amin(0).numpy(), features.amax(0).numpy(), 1)
    lattice = permutohedral_cpu.CPULattice(features[None].numpy(), keys)
    np.testing.assert_allclose(lattice.norm(), lattice.apply(torch.ones(600, 1), False)[:, 0], rtol=1e-5)


def test_the_result_is_the_same_for_any_number_of_threads():
    features, values = smooth_photo(30, 40).float(), torch.randn(1200, 5)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(permutohedral(values, features))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_noise_needs_larger_tables():
    """Every point has vertices of its own: as many as there can be."""
    features = torch.rand(300, 5, generator=torch.Generator().manual_seed(0)) * 200
    keys = number_vertices(np.zeros(5), np.full(5, 200.0), 1)
    assert permutohedral_cpu.CPULattice(features[None].numpy(), keys).vertices > 1700
    values = torch.randn(300, 1)
    torch.testing.assert_close(
        permutohedral(values, features), permutohedral(values.double(), features.double()).float(), rtol=1e-3, atol=1e-4
    )


def test_gradients_flow_to_the_values():
    lattice = Permutohedral(torch.randn(2, 15, 3, dtype=torch.float64))
    values = torch.randn(2, 15, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lattice.filter, values)
    assert torch.autograd.gradgradcheck(lattice.filter, values)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(5), "shape"),
        (torch.zeros(5, 17), "1 to 16"),
        (torch.zeros(0, 2), "shape"),
        (torch.zeros(5, 2, dtype=torch.int64), "float32 or float64"),
        (torch.tensor([[0.0, float("nan")]]), "NaN"),
        (torch.tensor([[0.0, float("inf")]]), "infinite"),
    ],
)
def test_features_that_are_none_are_refused(features, message):
    with pytest.raises(AtrousError, match=message):
        Permutohedral(features)


def test_values_of_other_points_are_refused():
    with pytest.raises(AtrousError, match="points"):
        permutohedral(torch.zeros(4, 1), torch.zeros(5, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_equals_the_cpu():
    features, values = smooth_photo(30, 40).float(), torch.randn(1200, 5)
    there = permutohedral(values.cuda(), features.cuda())
    torch.testing.assert_close(there.cpu(), permutohedral(values, features), rtol=1e-4, atol=1e-4)
    assert torch.equal(there, permutohedral(values.cuda(), features.cuda()))
