"""Layers against direct transcriptions of their rules."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.errors import AtrousError
from atrous.layers import ASPP, AtrousConv2d, BatchNorm2d, Decoder, ImagePooling, SeparableConv


def tensorflow_same(x, weight, stride, rate):
    """TensorFlow's padding="SAME" as its documentation states it."""
    pads = []
    for size in (x.shape[-1], x.shape[-2]):
        effective = (weight.shape[-1] - 1) * rate + 1
        total = max((-(-size // stride) - 1) * stride + effective - size, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, None, stride, 0, rate)


@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 3),
    rate=st.integers(1, 4),
)
@settings(max_examples=80, deadline=None)
def test_same_padding_is_tensorflows(height, width, kernel, stride, rate):
    layer = AtrousConv2d(2, 3, kernel, stride, rate, padding="same").double()
    x = torch.randn(1, 2, height, width, dtype=torch.float64)
    torch.testing.assert_close(layer(x), tensorflow_same(x, layer.weight, stride, rate))


@given(size=st.integers(1, 30), kernel=st.sampled_from([1, 3, 7]), stride=st.integers(1, 3), rate=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_output_size_is_the_ceiling_of_size_over_stride(size, kernel, stride, rate):
    out = AtrousConv2d(1, 1, kernel, stride, rate)(torch.zeros(1, 1, size, size))
    assert out.shape[-1] == -(-size // stride)


def test_without_padding_the_reach_is_lost_on_each_side_whatever_the_rate():
    layer, x = AtrousConv2d(2, 3, 3, padding="none"), torch.randn(1, 2, 12, 9)
    for rate in (1, 3):
        layer.rate = rate
        padded = F.conv2d(x, layer.weight, padding=rate, dilation=rate)
        torch.testing.assert_close(layer(x), padded[..., layer.reach : -layer.reach, layer.reach : -layer.reach])


def test_the_rate_spreads_the_taps():
    """A 3×3 kernel at rate r reads exactly the nine pixels at distance r."""
    layer = AtrousConv2d(1, 1, 3, rate=4)
    torch.nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 21, 21, requires_grad=True)
    layer(x)[0, 0, 10, 10].backward()
    read = {tuple(p) for p in x.grad[0, 0].nonzero().tolist()}
    assert read == {(10 + dy, 10 + dx) for dy in (-4, 0, 4) for dx in (-4, 0, 4)}


def test_batch_norm_of_a_single_value_uses_running_statistics():
    norm = BatchNorm2d(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    norm.running_var.fill_(4.0)
    x = torch.tensor([5.0, 6.0, 7.0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(norm.train()(x).flatten(), torch.full((3,), 2.0), atol=1e-4, rtol=0)
    assert norm.num_batches_tracked == 0
    norm(torch.randn(2, 3, 1, 1))
    assert norm.num_batches_tracked == 1


def test_image_pooling_is_the_projected_mean_everywhere():
    layer = ImagePooling(4, 2).eval()
    x = torch.randn(2, 4, 5, 7)
    out = layer(x)
    expected = F.relu(F.conv2d(x.mean((2, 3), keepdim=True), layer.project.conv.weight) / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(out, expected.expand(2, 2, 5, 7))


def test_separable_convolution_has_a_norm_and_a_relu_after_each_part():
    """As in the released code (FACTS A4); a peer leaves out the ones in between."""
    layer = SeparableConv(4, 6, rate=3).eval()
    x = torch.randn(1, 4, 9, 9)
    scale = (1 + 1e-5) ** -0.5
    inner = F.relu(F.conv2d(x, layer.depthwise.conv.weight, padding=3, dilation=3, groups=4) * scale)
    torch.testing.assert_close(layer(x), F.relu(F.conv2d(inner, layer.pointwise.conv.weight) * scale))


def test_aspp_branches_carry_their_rates():
    aspp = ASPP(8, (6, 12, 18), channels=4, conv=SeparableConv)
    assert aspp.rates == (6, 12, 18)
    aspp.set_rates((12, 24, 36))
    assert [branch.depthwise.conv.dilation for branch in aspp.atrous] == [(12, 12), (24, 24), (36, 36)]
    with pytest.raises(AtrousError, match="3 atrous branches, not 2"):
        aspp.set_rates((6, 12))


def test_aspp_beyond_the_map_is_its_centre_weight():
    """v3, section 3.3: with a rate near the map's size a 3×3 filter degenerates to 1×1."""
    conv = AtrousConv2d(2, 2, 3, rate=9)
    x = torch.randn(1, 2, 9, 9)
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight[:, :, 1:2, 1:2]))


def test_decoder_puts_the_encoder_first():
    """Encoder before low-level features, as in the released code; one peer has it the other way round."""
    decoder = Decoder(3, 5, low_level_channels=2, channels=4).eval()
    encoder, low = torch.randn(1, 3, 2, 2), torch.randn(1, 5, 8, 8)
    joined = torch.cat([F.interpolate(encoder, (8, 8), mode="bilinear", align_corners=True), decoder.low_level(low)], 1)
    torch.testing.assert_close(decoder(encoder, low), decoder.fuse(joined))
