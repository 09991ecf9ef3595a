"""v2's multi-scale inputs against the rule written out."""

import copy

import pytest
import torch
import torch.nn.functional as F

from atrous.errors import AtrousError
from atrous.models import MultiScale, create_model
from atrous.models.multi_scale import shrink_labels

NAME = "deeplabv3_mobilenet_v2_050"  # the smallest


def resized(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model(NAME, 4, output_stride=8).eval()


def test_the_logits_are_the_maximum_over_the_scales(model):
    """65 pixels at .5 and .75 are 33 and 49: maps of 5, 7 and 9, brought to 9."""
    x = torch.randn(2, 3, 65, 129)
    wrapped = MultiScale(model)
    with torch.inference_mode():
        half = model.coarse_logits(resized(x, (33, 65)))
        three_quarters = model.coarse_logits(resized(x, (49, 97)))
        full = model.coarse_logits(x)
        assert [m.shape[-2:] for m in (half, three_quarters, full)] == [(5, 9), (7, 13), (9, 17)]
        expected = torch.stack([resized(half, (9, 17)), resized(three_quarters, (9, 17)), full]).amax(0)
        every = wrapped.all_logits(x)
        for ours, theirs in zip(every, [half, three_quarters, full, expected], strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(wrapped.coarse_logits(x), expected)
        torch.testing.assert_close(wrapped(x), resized(expected, (65, 129)))
    assert all((expected == resized(m, (9, 17))).any() for m in (half, three_quarters, full))


def test_without_aligned_corners_sides_are_rounded_down_and_sampled_at_exactly_the_scale(model):
    """37 pixels at .5 are 18, of which the first stands between pixels 0 and 1, the last between 34 and 35."""
    model.align_corners = False
    wrapped, x = MultiScale(model, (0.5,)), torch.randn(1, 3, 37, 37)
    between = (x[..., :36, :36] + x[..., 1:37, :36] + x[..., :36, 1:37] + x[..., 1:37, 1:37])[..., ::2, ::2] / 4
    with torch.inference_mode():
        torch.testing.assert_close(wrapped.coarse_logits(x), model.coarse_logits(between))


def test_shrunk_labels_are_the_pixels_that_the_map_stands_for():
    labels = torch.arange(321 * 321).reshape(1, 321, 321)
    assert torch.equal(shrink_labels(labels, (41, 41)), labels[:, ::8, ::8])
    assert torch.equal(shrink_labels(labels, (321, 321)), labels)
    assert torch.equal(shrink_labels(labels, (1, 1)), labels[:, :1, :1])
    assert shrink_labels(torch.arange(8)[None, None], (1, 4), align_corners=False).tolist() == [[[0, 2, 4, 6]]]


def test_the_weights_are_the_models_under_its_names(model):
    wrapped = MultiScale(model, (0.5, 1.0))
    assert list(wrapped.state_dict()) == list(model.state_dict())
    assert {id(p) for p in wrapped.parameters()} == {id(p) for p in model.parameters()}
    wrapped.train()
    assert model.training
    assert model.aspp.training
    wrapped.double()
    assert model.logits.weight.dtype == torch.float64
    duplicate = copy.deepcopy(wrapped)
    duplicate.logits.bias.data.fill_(7)
    assert duplicate.single.logits.bias[0] == 7
    assert model.logits.bias[0] == 0


def test_its_config_makes_it_again():
    model = create_model(NAME, 4, multi_scale=(0.5, 1.0))
    model.set_output_stride(8)
    assert model.single.output_stride == model.output_stride == 8
    again = create_model(**model.config)
    again.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 40, 31)
    with torch.inference_mode():
        assert torch.equal(again.eval()(x), model.eval()(x))
        assert not torch.equal(again(x), again.single(x))


@pytest.mark.parametrize("size", [(1, 1), (97, 131)])
def test_any_size(model, size):
    with torch.inference_mode():
        logits = MultiScale(model)(torch.randn(1, 3, *size))
    assert logits.shape == (1, 4, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("scales", [(), (0.0, 1.0), (-1.0,), (8.0,)])
def test_impossible_scales_are_named(scales):
    with pytest.raises(AtrousError, match="multi_scale="):
        create_model(NAME, 4, multi_scale=scales)


def test_a_wrapped_model_is_not_wrapped_again(model):
    with pytest.raises(AtrousError, match="one scale"):
        MultiScale(MultiScale(model))


def test_the_output_stride_is_the_models_own():
    model = create_model("deeplabv3_mobilenet_v2_050", 3, multi_scale=[0.5, 1.0])
    model.single.set_output_stride(8)
    assert model.output_stride == 8
    model.set_output_stride(16)
    assert model.single.output_stride == 16
