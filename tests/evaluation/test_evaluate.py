"""The whole way from a data set to its scores."""

import weakref
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from atrous.data import open_dataset
from atrous.errors import AtrousError, DataError, ImageError
from atrous.evaluation import BoundaryIoU, Calibration, ConfusionMatrix, Trimap, evaluate, merge
from atrous.evaluation.processes import share


def assert_close(found, expected):
    """But for the probabilities' last bits: several photos go side by side, one has all the threads."""
    found, expected = (asdict(each.reliability()) for each in (found, expected))
    for name, value in found.items():
        # None, of an empty bin, becomes nan.
        np.testing.assert_allclose(np.array(value, float), np.array(expected[name], float), rtol=1e-5, err_msg=name)


def test_a_predictor_is_right_about_its_own_labels(predictor, data):
    seen, done = [], []
    result = evaluate(predictor, data, boundary=True, seen=seen.append, progress=lambda *step: done.append(step))
    assert result.pixel_accuracy == 1
    assert result.miou == 1
    assert result.boundary.mean == 1
    assert done == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert [each.source.name for each in seen] == [photo.path.name for photo in result.photos]
    assert all(photo.seconds > 0 and photo.miou == 1 for photo in result.photos)
    assert result.peak_memory > 1 << 20


def test_errors_count(predictor, data):
    mask = np.array(Image.open(data / "masks" / "val" / "1.png"))
    judged = mask != 255
    Image.fromarray(np.where(judged, (mask + 1) % 3, mask).astype(np.uint8)).save(data / "masks" / "val" / "1.png")
    total = judged.sum() + 3 * 37 * 50 + 30 * 70
    result = evaluate(predictor, data)
    assert result.pixel_accuracy == pytest.approx(1 - judged.sum() / total)
    assert [photo.path.name for photo in result.worst(1)] == ["1.png"]
    assert result.worst(5)[0].miou == 0


def test_everything_equals_what_the_parts_count_from_the_predictions(predictor, wrong):
    options = {"scales": (0.75, 1.25), "flip": True}
    result = evaluate(predictor, wrong, trimap="edges", boundary=True, calibration=True, **options)
    folder = open_dataset(wrong, "val")
    matrix, trimap = ConfusionMatrix(predictor.classes), Trimap(predictor.classes, around="edges")
    boundary, calibration = BoundaryIoU(predictor.classes), Calibration()
    for photo, truth in folder:
        found = predictor(photo, scores=True, **options)
        matrix.add(truth, found.labels)
        trimap.add(truth, found.labels)
        boundary.add(truth, found.labels)
        calibration.add(truth, found.labels, found.scores().max(0))
    assert 0.2 < result.miou < 0.9
    assert result.scores == matrix.scores()
    assert result.trimap.curve() == trimap.curve()
    assert result.boundary.iou == boundary.iou
    assert_close(result.calibration, calibration)


def test_merged_parts_equal_the_whole(predictor, wrong):
    asked = {"trimap": "auto", "boundary": True, "calibration": True}
    whole = evaluate(predictor, wrong, **asked)
    names = [photo.path.name for photo in whole.photos]
    parts = []
    for kept in (names[:2], names[2:3], names[3:]):
        dataset = open_dataset(wrong, "val")
        places = [index for index, path in enumerate(dataset.images) if path.name in kept]
        dataset.images = [dataset.images[index] for index in places]
        dataset.masks = [dataset.masks[index] for index in places]
        parts.append(evaluate(predictor, dataset, **asked))
    before = parts[0].confusion.counts.copy()
    together = merge(parts)
    assert np.array_equal(parts[0].confusion.counts, before)
    told, expected = together.to_dict(), whole.to_dict()
    for each in (told, expected):
        del each["seconds_per_photo"], each["peak_memory_mb"]
    assert told == expected
    assert [photo.path.name for photo in together.photos] == names
    assert_close(together.calibration, whole.calibration)
    with pytest.raises(AtrousError, match="has no boundary"):
        merge([whole, evaluate(predictor, wrong, trimap="auto", calibration=True)])


def test_no_more_than_two_photos_are_held(predictor, data):
    """The one that is judged and the one before it, whatever the split's length."""
    held, most = [], []

    def seen(result):
        held.append(weakref.ref(result))
        most.append(sum(each() is not None for each in held))

    evaluate(predictor, data, seen=seen, calibration=True, trimap="auto", boundary=True)
    assert len(most) == 5
    assert max(most) <= 2


def test_processes_without_a_group_take_everything(predictor, data):
    assert share(5) == range(5)
    assert evaluate(predictor, data, distributed=True).miou == 1


def test_other_classes_are_refused(predictor, data):
    text = (data / "classes.json").read_text()
    (data / "classes.json").write_text(text.replace('"b"', '"x"'))
    with pytest.raises(DataError, match=r"its classes \(a, x, c\) are not the model's \(a, b, c\)"):
        evaluate(predictor, data)


def test_an_unreadable_photo_stops_the_evaluation(predictor, data):
    (data / "images" / "val" / "2.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"2\.png"):
        evaluate(predictor, data)


def test_a_mask_of_another_size_is_named(predictor, data):
    Image.fromarray(np.zeros((7, 9), np.uint8)).save(data / "masks" / "val" / "3.png")
    with pytest.raises(DataError, match=r"3\.png: is not of its photo's size"):
        evaluate(predictor, data)


def test_an_unknown_trimap_is_refused(predictor, data):
    with pytest.raises(AtrousError, match="give auto, void or edges"):
        evaluate(predictor, data, trimap="outline")


def test_a_model_may_be_given_by_its_folder(predictor, data, tmp_path):
    folder = predictor.save(tmp_path / "model")
    assert evaluate(folder, data).scores == evaluate(predictor, data).scores
    assert evaluate(str(folder), data).scores == evaluate(predictor, data).scores
