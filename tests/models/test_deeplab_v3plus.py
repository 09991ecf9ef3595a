"""The decoder's forms of v3+'s tables 1 and 2."""

import pytest
import torch
import torch.nn.functional as F

from atrous.errors import AtrousError
from atrous.models import create_model
from networks import deviation, image, randomise

# On ResNet-101, 21 classes. Each line follows from the default's 59,344,309 by the convolutions that change:
# low-level 1×1 (256·c + 2·c), first 3×3 ((256 + c)·256·9 + 2·256), second 3×3 (590,336), logits (256·21 + 21).
DECODERS = [
    ({}, 59_344_309),
    ({"low_level_channels": 8}, 59_344_309 - 40 * 258 - 40 * 2304),
    ({"low_level_channels": 64}, 59_344_309 + 16 * 258 + 16 * 2304),
    ({"decoder_depth": 1}, 58_753_973),
    ({"decoder_depth": 3}, 59_934_645),
    ({"decoder_depth": 1, "decoder_channels": 128}, 58_400_821),
    ({"decoder_depth": 1, "decoder_kernel_size": 1}, 58_131_381),
    ({"conv3": True}, 59_344_309 + 512 * 48 + 2 * 48 + 304 * 2304 + 512 + 590_336),
    ({"fine_channels": 32}, 59_344_309 + 256 * 32 + 64 + 64 * 16 + 32 + 48 * 32 * 9 + 64 + 32 * 21),
]


@pytest.mark.parametrize(("options", "expected"), DECODERS, ids=str)
def test_parameter_counts(options, expected):
    with torch.device("meta"):
        model = create_model("deeplabv3plus_resnet101", **options)
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("name", ["deeplabv3plus_resnet50", "deeplabv3plus_xception41", "deeplabv3plus_mobilenet_v2"])
def test_conv3_is_a_decoder_at_stride_8_before_the_one_at_stride_4(name):
    """Written out: twice up, join with the features of that stride, two convolutions."""
    model = randomise(create_model(name, 3, conv3=True))
    x = image(65, 97)
    with torch.inference_mode():
        features = model.backbone(x)
        encoded = model.aspp(features.output)
        for decoder, low, size in (
            (model.middle_decoder, features.middle_level, (9, 13)),
            (model.decoder, features.low_level, (17, 25)),
        ):
            assert low.shape[-2:] == size
            encoded = F.interpolate(encoded, size, mode="bilinear", align_corners=True)
            encoded = decoder.fuse(torch.cat([encoded, decoder.low_level(low)], 1))
        assert deviation(model.coarse_logits(x), model.logits(encoded)) < 1e-12


@pytest.mark.parametrize("name", ["deeplabv3plus_resnet50", "deeplabv3plus_xception41", "deeplabv3plus_mobilenet_v2"])
def test_fine_channels_correct_the_logits_at_stride_2(name):
    """Written out: reduced, twice up, joined with 16 of the finer features, one convolution, added to the logits."""
    model = randomise(create_model(name, 3, fine_channels=24))
    x = image(65, 97)
    with torch.inference_mode():
        features = model.backbone(x)
        decoded = model.decoder(model.aspp(features.output), features.low_level)
        reduced = model.fine_decoder.reduce(decoded)
        assert features.fine_level.shape[-2:] == (33, 49)
        upsampled = F.interpolate(reduced, (33, 49), mode="bilinear", align_corners=True)
        step = model.fine_decoder.decoder
        fine = step.fuse(torch.cat([upsampled, step.low_level(features.fine_level)], 1))
        assert fine.shape[1] == 24
        logits = F.interpolate(model.logits(decoded), (33, 49), mode="bilinear", align_corners=True)
        assert deviation(model.coarse_logits(x), logits + model.fine_decoder.logits(fine)) < 1e-12


def test_fine_channels_begin_without_a_say():
    model = create_model("deeplabv3plus_mobilenet_v2", 3, fine_channels=24).double().eval()
    x = image(65, 97)
    plain = create_model("deeplabv3plus_mobilenet_v2", 3).double().eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    with torch.inference_mode():
        upsampled = F.interpolate(plain.coarse_logits(x), (33, 49), mode="bilinear", align_corners=True)
        assert deviation(model.coarse_logits(x), upsampled) < 1e-12


def test_fine_channels_below_zero_are_refused():
    with pytest.raises(AtrousError, match="fine_channels=-1"):
        create_model("deeplabv3plus_mobilenet_v2", fine_channels=-1)


@pytest.mark.parametrize(
    "options", [{"decoder_depth": 0}, {"low_level_channels": 0}, {"decoder_channels": 0}, {"decoder_kernel_size": 2}]
)
def test_an_impossible_decoder_is_one_line(options):
    with pytest.raises(AtrousError, match=r"a decoder of .* cannot be"):
        create_model("deeplabv3plus_mobilenet_v2", **options)


def test_a_pointwise_decoder_has_no_depthwise_convolution():
    model = create_model("deeplabv3plus_mobilenet_v2", separable=True, decoder_kernel_size=1)
    assert [conv.kernel_size for conv in model.decoder.modules() if isinstance(conv, torch.nn.Conv2d)] == [(1, 1)] * 3
