"""Sliding windows against a transcription of mmsegmentation's `slide_inference`."""

import numpy as np
import pytest
import torch

from atrous.crf import mean_field, parse_crf
from atrous.errors import AtrousError
from atrous.evaluation import Windows, evaluate
from atrous.evaluation.windows import predict_in_windows


def slide(logits_of, photo: np.ndarray, crop: int, stride: int, classes: int) -> torch.Tensor:
    """K×H×W: the mean of the full-size logits of windows, placed as mmsegmentation places them."""
    height, width, _ = photo.shape
    rows = max(height - crop + stride - 1, 0) // stride + 1
    columns = max(width - crop + stride - 1, 0) // stride + 1
    total, count = torch.zeros(classes, height, width), torch.zeros(height, width)
    for row in range(rows):
        for column in range(columns):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            top, left = max(bottom - crop, 0), max(right - crop, 0)
            total[:, top:bottom, left:right] += logits_of(photo[top:bottom, left:right])
            count[top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize(("height", "width", "crop", "stride"), [(70, 97, 49, 30), (40, 120, 65, 65), (33, 40, 49, 20)])
def test_windows_equal_mmsegmentations(predictor, tmp_path, height, width, crop, stride):
    from PIL import Image

    random = np.random.default_rng(0)
    blotches = random.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    photo = np.asarray(Image.fromarray(blotches).resize((width, height)))
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    network = predictor._network

    def logits_of(part: np.ndarray) -> torch.Tensor:
        h, w, _ = part.shape
        size = network.padded(h, w)
        with torch.inference_mode():
            coarse = network.coarse_logits(network.normalise([part], size))
            full = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=True)
        return full[0, :, :h, :w]

    expected = slide(logits_of, photo, crop, stride, 3)
    [(result, seconds)] = predict_in_windows(predictor, [path], Windows(crop, stride))
    assert seconds > 0
    assert result.source == path
    assert np.allclose(result.scores(), expected.softmax(0), atol=1e-4)
    assert (result.labels == expected.argmax(0).numpy()).mean() > 0.999


def test_a_window_over_the_whole_photo_is_no_window(predictor, wrong):
    plain = evaluate(predictor, wrong, scales=(1, 1.5), flip=True, calibration=True)
    windowed = evaluate(predictor, wrong, scales=(1, 1.5), flip=True, calibration=True, windows=Windows(80))
    assert windowed.scores == plain.scores
    assert windowed.calibration.reliability().error == pytest.approx(plain.calibration.reliability().error, abs=1e-5)


def test_an_unreadable_photo_is_a_failure(predictor, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    [(result, _)] = predict_in_windows(predictor, [tmp_path / "x.png"], Windows(65))
    assert not result
    assert "x.png" in result.message


def test_impossible_windows_are_refused():
    assert Windows(513).stride == 342
    with pytest.raises(AtrousError, match="window=20 is too small"):
        Windows(20)
    with pytest.raises(AtrousError, match="give 1 to 65 pixels"):
        Windows(65, 66)


def test_a_crf_refines_the_whole_photo_not_each_window(predictor, wrong):
    photos = sorted((wrong / "images" / "val").iterdir())[:2]
    for (plain, _), (refined, _) in zip(
        predict_in_windows(predictor, photos, Windows(35, 20)),
        predict_in_windows(predictor, photos, Windows(35, 20), crf="voc"),
        strict=True,
    ):
        unary = -np.log(np.maximum(plain.scores(), 1e-38))
        expected = mean_field(unary, plain.image, parse_crf("voc"))
        assert np.allclose(refined.scores(), expected, atol=0.02)  # labels that are nowhere likely are left out
        assert np.array_equal(refined.labels, refined.scores().argmax(0))
        assert not np.array_equal(refined.labels, plain.labels)
