"""The bands as the released MATLAB code makes them."""

import numpy as np
import pytest
from labelled import labels_of

from atrous.evaluation import Trimap
from atrous.evaluation.trimap import WIDTHS, edge_distances, void_distances


def dilated(mask: np.ndarray, width: int) -> np.ndarray:
    """imdilate(mask, strel('square', 2 * width + 1)), by its definition."""
    grown = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        grown[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1] = True
    return grown


def outlined(height: int, width: int, seed: int) -> np.ndarray:
    """Labels with void wherever two classes meet, as VOC has them."""
    labels = labels_of(height, width, seed, void=False)
    meet = np.zeros(labels.shape, bool)
    meet[:-1] |= labels[:-1] != labels[1:]
    meet[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    labels[dilated(meet, 1)] = 255
    return labels


def test_void_bands_are_the_released_matlab_rule():
    """MyVOCevalsegBoundary.m: one confusion matrix a width, of void dilated by a (2w + 1) square without void."""
    pairs = [(outlined(50, 61, seed), labels_of(50, 61, seed + 10, void=False)) for seed in (1, 2)]
    trimap = Trimap(("a", "b", "c"), around="void")
    for truth, found in pairs:
        trimap.add(truth, found)
    curve = trimap.curve()
    for at, width in enumerate(WIDTHS):
        if width not in (1, 2, 3, 7, 20, 40):
            continue
        conf = np.zeros((3, 3))
        for truth, found in pairs:
            band = dilated(truth == 255, width) & (truth != 255)
            for t, f in zip(truth[band], found[band], strict=True):
                conf[t, f] += 1
        hits = np.diag(conf)
        assert curve.miou[at] == pytest.approx((hits / (conf.sum(0) + conf.sum(1) - hits)).mean())
        assert curve.pixel_accuracy[at] == pytest.approx(hits.sum() / conf.sum())


def test_edges_are_as_far_as_the_nearest_pixel_of_another_label():
    """By brute force; void is another label, and itself not judged."""
    truth = labels_of(19, 26, 3)
    distances = edge_distances(truth)
    ys, xs = np.indices(truth.shape)
    for y, x in np.ndindex(*truth.shape):
        others = truth != truth[y, x]
        nearest = np.maximum(abs(ys - y), abs(xs - x))[others].min()
        assert distances[y, x] == (0 if truth[y, x] == 255 else nearest)


def test_without_void_or_edges_nothing_is_near():
    flat = np.zeros((5, 5), np.uint8)
    assert (void_distances(flat) == 255).all()
    assert (edge_distances(flat) == 255).all()
    trimap = Trimap(("a", "b"))
    trimap.add(flat, flat)
    assert set(trimap.curve().pixel_accuracy) == {0.0}


def test_void_is_chosen_where_it_outlines_the_objects_and_edges_elsewhere():
    voc, other = Trimap(("a", "b", "c")), Trimap(("a", "b", "c"))
    voc.add(outlined(60, 60, 1), labels_of(60, 60, 2, void=False))
    truth = labels_of(60, 60, 1)  # void in specks, not between the classes
    other.add(truth, labels_of(60, 60, 2, void=False))
    assert voc.curve().around == "void"
    assert other.curve().around == "edges"
    assert Trimap(("a",), around="edges").curve().around == "edges"


def test_the_choice_is_of_all_images_not_of_the_first():
    voc, plain = outlined(60, 60, 1), labels_of(60, 200, 1)
    found = [labels_of(60, 60, 2, void=False), labels_of(60, 200, 2, void=False)]
    ways = []
    for order in ((0, 1), (1, 0)):
        trimap = Trimap(("a", "b", "c"))
        for at in order:
            trimap.add((voc, plain)[at], found[at])
        ways.append(trimap.curve())
    assert ways[0] == ways[1]
    assert ways[0].around == "edges"
