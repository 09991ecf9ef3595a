"""Scores counted by hand, and the whole way from a folder to them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.errors import DataError, ImageError
from atrous.evaluation import ConfusionMatrix, evaluate
from atrous.inference import Predictor
from atrous.models import create_model
from atrous.weights import ModelCard


def test_scores_by_hand():
    """Two images, pooled: class a has 3 hits of 5, b 2 of 4, c is absent; void is not judged."""
    matrix = ConfusionMatrix(("a", "b", "c"))
    matrix.add(np.array([[0, 0, 0, 255]], np.uint8), np.array([[0, 0, 1, 2]], np.uint8))
    matrix.add(np.array([[1, 1, 1, 0, 255]], np.uint8), np.array([[1, 1, 0, 0, 1]], np.uint8))
    scores = matrix.scores()
    assert scores.iou == {"a": 3 / 5, "b": 2 / 4, "c": None}
    assert scores.miou == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert scores.pixel_accuracy == pytest.approx(5 / 7)


def test_the_mean_is_over_the_data_set_not_over_images():
    """One pixel wrong in a tiny image weighs as one pixel; a mean over images gives .75 here."""
    matrix = ConfusionMatrix(("a", "b"))
    matrix.add(np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8))
    matrix.add(np.array([[1, 1]], np.uint8), np.array([[1, 0]], np.uint8))
    scores = matrix.scores()
    assert scores.iou == {"a": pytest.approx(100 / 101), "b": 0.5}


def test_nothing_judged_gives_zero_and_no_classes():
    matrix = ConfusionMatrix(("a",))
    matrix.add(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert matrix.scores().to_dict() == {"miou": 0.0, "pixel_accuracy": 0.0, "iou": {"a": None}}


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=2)
    return Predictor(model, ModelCard(("a", "b"), ((0, 0, 0), (1, 1, 1))))


@pytest.fixture
def data(tmp_path, predictor):
    """Photos of two sizes whose masks are what the predictor says, with a band of void."""
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").mkdir(parents=True)
    (tmp_path / "classes.json").write_text(json.dumps({"classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]]}))
    rng = np.random.default_rng(0)
    for index, size in enumerate([(40, 50), (33, 70), (40, 50)]):
        photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(photo).save(tmp_path / "images" / "val" / f"{index}.png")
        mask = predictor(photo).labels.copy()
        mask[:3] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / "val" / f"{index}.png")
    return tmp_path


def test_a_predictor_is_right_about_its_own_labels(predictor, data):
    seen = []
    scores = evaluate(predictor, data, progress=lambda *step: seen.append(step))
    assert scores.pixel_accuracy == 1
    assert scores.miou == 1
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_errors_count(predictor, data):
    mask = np.array(Image.open(data / "masks" / "val" / "1.png"))
    judged = mask != 255
    Image.fromarray(np.where(judged, 1 - mask, mask).astype(np.uint8)).save(data / "masks" / "val" / "1.png")
    total = judged.sum() + 2 * 37 * 50
    assert evaluate(predictor, data).pixel_accuracy == pytest.approx(1 - judged.sum() / total)


def test_other_classes_are_refused(predictor, data):
    (data / "classes.json").write_text(json.dumps({"classes": ["a", "x"], "palette": [[0, 0, 0], [1, 1, 1]]}))
    with pytest.raises(DataError, match=r"its classes \(a, x\) are not the model's \(a, b\)"):
        evaluate(predictor, data)


def test_an_unreadable_photo_stops_the_evaluation(predictor, data):
    (data / "images" / "val" / "2.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"2\.png"):
        evaluate(predictor, data)
