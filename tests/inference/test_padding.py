"""What a photo is padded to: the sizes that the network's own project takes."""

import sys

import numba
import numpy as np
import pytest
import torch

import atrous
from atrous.inference import Predictor
from atrous.inference.network import Network
from atrous.models import create_model
from networks import randomise


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deeplabv3_mobilenet_v2_050", (129, 513)),  # the papers' k·16 + 1
        ("smp_deeplabv3plus_mobilenet_v2", (128, 512)),
        ("torchvision_deeplabv3_mobilenet_v3_large", (128, 512)),
    ],
)
def test_a_side_that_fits_is_left_as_it_is(name, expected):
    model = create_model(name, num_classes=2, output_stride=16)
    network = Network(model, (0.5,) * 3, (0.5,) * 3, torch.device("cpu"))
    assert network.padded(*expected) == expected
    assert network.padded(expected[0] - 15, expected[1] + 1) == (expected[0], expected[1] + 16)


@pytest.mark.parametrize("size", [(33, 17), (20, 17), (33, 9), (5, 7)])
def test_what_surrounds_a_photo_is_zero_whatever_lay_in_memory_before(make_photo, monkeypatch, size):
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=2, output_stride=16)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    network = Network(model, mean, std, torch.device("cpu"))
    photos = [make_photo(*size, seed=seed) for seed in (0, 1)]
    monkeypatch.setattr(np, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
    found = network.normalise([photos[0], photos[1][:, ::-1]], (33, 17)).permute(0, 2, 3, 1).numpy()
    expected = np.zeros((2, 33, 17, 3))
    expected[0, : size[0], : size[1]] = (photos[0] / 255 - mean) / std
    expected[1, : size[0], : size[1]] = (photos[1][:, ::-1] / 255 - mean) / std
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (20, 17), (33, 9)])
def test_numba_normalises_to_the_bit_as_is_done_without_it(make_photo, monkeypatch, size):
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=2, output_stride=16)
    network = Network(model, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), torch.device("cpu"))
    photo = make_photo(*size)
    monkeypatch.setitem(sys.modules, "numba", numba)
    found = network.normalise([photo], (33, 17))
    monkeypatch.delitem(sys.modules, "numba")
    assert torch.equal(network.normalise([photo], (33, 17)), found)


def test_several_scales_do_not_change_it():
    single = create_model("smp_deeplabv3plus_mobilenet_v2", num_classes=2)
    several = create_model("smp_deeplabv3plus_mobilenet_v2", num_classes=2, multi_scale=[0.5, 1.0])
    assert several.extra_pixels == single.extra_pixels == 0


@pytest.mark.parametrize("kind", ["DeepLabV3Plus", pytest.param("DeepLabV3", marks=pytest.mark.slow)])
def test_a_converted_smp_model_labels_as_smp_does(smp, tmp_path, make_photo, kind):
    """On random weights, whose labels a shift of a pixel changes: with sides of whole strides, all are smp's."""
    theirs = randomise(getattr(smp, kind)("mobilenet_v2", encoder_weights=None, classes=5)).float()
    torch.save(theirs.state_dict(), tmp_path / "smp.pth")
    ours: Predictor = atrous.load(tmp_path / "smp.pth", "cpu")
    mean, std = (torch.tensor(values)[:, None, None] for values in (ours.card.mean, ours.card.std))
    for size in ((96, 160), (128, 64)):
        photo = make_photo(*size)
        with torch.inference_mode():
            x = (torch.from_numpy(photo).permute(2, 0, 1).float() / 255 - mean) / std
            expected = theirs(x[None])[0].argmax(0).numpy()
        assert len(np.unique(expected)) > 1
        assert (ours(photo).labels == expected).mean() > 0.9999
