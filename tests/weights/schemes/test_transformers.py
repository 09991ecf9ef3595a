"""transformers' MobileNetV2ForSemanticSegmentation as save_pretrained leaves it, against its own outputs."""

import json

import pytest
import torch

from atrous.errors import WeightsError
from atrous.weights import export_state, open_model
from networks import deviation, image, randomise


def segmenter(transformers, **config):
    config = transformers.MobileNetV2Config(num_labels=21, **config)
    return randomise(transformers.MobileNetV2ForSemanticSegmentation(config))


@pytest.mark.slow
@pytest.mark.parametrize("output_stride", [8, 16])
def test_equal_logits_and_back(transformers, output_stride, tmp_path):
    """Its logits are coarse: ours before they are upsampled. 128 is even: TensorFlow pads that unevenly."""
    theirs = segmenter(transformers, output_stride=output_stride)
    theirs.float().save_pretrained(tmp_path)
    opened = open_model(tmp_path)
    assert opened.found == (
        f"transformers' MobileNetV2ForSemanticSegmentation, 21 classes, output stride {output_stride}"
    )
    assert opened.card.mean == opened.card.std == (0.5, 0.5, 0.5)
    assert opened.card.classes[12] == "dog"
    ours = opened.model.double()
    theirs.double().eval()
    for size in ((513, 513), (97, 131), (128, 96)):
        with torch.inference_mode():
            assert deviation(ours.coarse_logits(image(*size)), theirs(image(*size)).logits) < 1e-9
    back = export_state(ours, "transformers")
    state = theirs.state_dict()
    unused = {name for name in state if name.startswith("mobilenet_v2.conv_1x1.")}
    assert back.keys() == state.keys() - unused
    assert all(tensor.equal(state[name]) for name, tensor in back.items())


@pytest.mark.slow
def test_width_one_half_and_the_configs_class_names(transformers, tmp_path):
    """Google's width .5 halves every channel count exactly: depth_divisible_by 1 would do it there."""
    theirs = segmenter(transformers, depth_multiplier=0.5, depth_divisible_by=1, min_depth=1, output_stride=16)
    theirs.config.id2label = {index: f"kind {index}" for index in range(21)}
    theirs.float().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.4] * 3, "image_std": [0.2] * 3}))
    opened = open_model(tmp_path)
    assert opened.card.classes == tuple(f"kind {index}" for index in range(21))
    assert opened.card.mean == (0.4, 0.4, 0.4)
    assert opened.card.std == (0.2, 0.2, 0.2)
    theirs.double().eval()
    with torch.inference_mode():
        ours = opened.model.double().coarse_logits(image(97, 131))
        assert deviation(ours, theirs(image(97, 131)).logits) < 1e-9


@pytest.mark.slow
def test_what_is_refused(transformers, tmp_path):
    segmenter(transformers, tf_padding=False).save_pretrained(tmp_path / "centred")
    with pytest.raises(WeightsError, match="without tf_padding"):
        open_model(tmp_path / "centred")
    segmenter(transformers, depth_multiplier=0.75).save_pretrained(tmp_path / "narrow")
    with pytest.raises(WeightsError, match="24 channels"):
        open_model(tmp_path / "narrow")
