"""Scores counted by hand, and as the scripts of VOC and Cityscapes count them."""

import numpy as np
import pytest
from labelled import labels_of

from atrous.errors import AtrousError
from atrous.evaluation import ConfusionMatrix


def test_scores_by_hand():
    """Two images, pooled: class a has 3 hits of 5, b 2 of 4, c is absent; void is not judged."""
    matrix = ConfusionMatrix(("a", "b", "c"))
    matrix.add(np.array([[0, 0, 0, 255]], np.uint8), np.array([[0, 0, 1, 2]], np.uint8))
    matrix.add(np.array([[1, 1, 1, 0, 255]], np.uint8), np.array([[1, 1, 0, 0, 1]], np.uint8))
    scores = matrix.scores()
    assert scores.iou == {"a": 3 / 5, "b": 2 / 4, "c": None}
    assert scores.accuracy == {"a": 3 / 4, "b": 2 / 3, "c": None}
    assert scores.miou == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert scores.pixel_accuracy == pytest.approx(5 / 7)
    assert scores.mean_accuracy == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert scores.frequency_weighted_iou == pytest.approx(4 / 7 * 3 / 5 + 3 / 7 * 2 / 4)


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
    nothing = {"miou": 0.0, "pixel_accuracy": 0.0, "mean_accuracy": 0.0, "frequency_weighted_iou": 0.0}
    assert matrix.scores().to_dict() == {**nothing, "iou": {"a": None}, "accuracy": {"a": None}}


def pictures(classes: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truths with void in them, and predictions; the last class occurs in neither, the one before in predictions."""
    truths = [labels_of(23, 31, seed, classes - 2) for seed in (1, 2, 3)]
    found = [labels_of(23, 31, seed, classes - 1, void=False) for seed in (4, 5, 6)]
    return list(zip(truths, found, strict=True))


def test_voc_convention():
    """VOCevalseg.m: pixels of truth 255 are left out; a class's accuracy is its diagonal over row, column less it."""
    classes = 5
    conf = np.zeros((classes, classes))
    for truth, found in pictures(classes):
        for y in range(truth.shape[0]):
            for x in range(truth.shape[1]):
                if truth[y, x] < 255:
                    conf[truth[y, x], found[y, x]] += 1
    with np.errstate(invalid="ignore"):
        expected = [conf[j, j] / (conf[j].sum() + conf[:, j].sum() - conf[j, j]) for j in range(classes)]
    matrix = ConfusionMatrix(tuple("abcde"))
    for truth, found in pictures(classes):
        matrix.add(truth, found)
    assert np.array_equal(matrix.counts, conf)
    got = [np.nan if value is None else value for value in matrix.scores().iou.values()]
    assert np.allclose(got, expected, equal_nan=True)


def test_cityscapes_convention():
    """evalPixelLevelSemanticLabeling.py: what is predicted on ignored pixels is no false positive; a class without
    true positives, false positives and false negatives has no score and is left out of the mean; one that is only
    predicted has 0 and is not.
    """
    classes = 5
    tp, fp, fn = (np.zeros(classes) for _ in range(3))
    for truth, found in pictures(classes):
        for label in range(classes):
            tp[label] += ((truth == label) & (found == label)).sum()
            fn[label] += ((truth == label) & (found != label)).sum()
            fp[label] += ((truth != label) & (truth != 255) & (found == label)).sum()
    assert fp[3] > 0
    assert tp[3] + fn[3] == 0
    denominators = tp + fp + fn
    assert denominators[4] == 0
    scores = [tp[label] / denominators[label] for label in range(classes) if denominators[label]]
    matrix = ConfusionMatrix(tuple("abcde"))
    for truth, found in pictures(classes):
        matrix.add(truth, found)
    assert matrix.scores().miou == pytest.approx(sum(scores) / len(scores))
    assert matrix.scores().iou["d"] == 0
    assert matrix.scores().iou["e"] is None
    assert matrix.scores().accuracy["d"] is None


def test_matrices_of_other_classes_do_not_merge():
    with pytest.raises(AtrousError, match="different classes"):
        ConfusionMatrix(("a", "b")).merge(ConfusionMatrix(("a", "c")))
