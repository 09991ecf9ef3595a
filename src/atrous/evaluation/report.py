"""An evaluation as one HTML page: scores, plots, and the photos that went worst."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from atrous.data import SegmentationDataset
from atrous.evaluation import pictures
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.evaluation.evaluate import predict_all
from atrous.evaluation.evaluation import Evaluation, Photo
from atrous.evaluation.windows import Windows
from atrous.inference import Failure, Predictor, Segmentation
from atrous.inference.labelling import Keywords
from atrous.viz import Page, overlay

if TYPE_CHECKING:
    from atrous.evaluation.trimap import TrimapCurve

SIDE_BY_SIDE = "The photo, the truth (void keeps the photo's colours) and the prediction."
_WORST = 6
_CONFUSIONS = 10
_SHOWN_WIDTHS = (1, 2, 3, 5, 10, 15, 20, 30, 40)  # those of v1's figure
_AROUND = {
    "void": "Bands around void, which outlines the objects: as VOC's, comparable with the papers.",
    "edges": "Bands around the edges of the labels, as no void outlines the objects: not comparable with VOC's.",
}


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    predictor: Predictor,
    dataset: SegmentationDataset,
    *,
    title: str,
    windows: Windows | None = None,
    **options: Unpack[Keywords],
) -> Path:
    """Writes the page.

    Args:
        windows, options: those of `evaluate`; the worst photos are predicted once more.

    Raises:
        AtrousError: a place that cannot be written.
    """
    page = Page(title)
    page.table(["score", "value"], score_rows(evaluation))
    page.heading("Classes")
    page.picture(pictures.class_bars(evaluation, dataset.classes.palette), "IoU of each class; the line is the mean.")
    page.table(*class_table(evaluation))
    add_confusion(page, evaluation.confusion)
    if evaluation.trimap:
        curve = evaluation.trimap.curve()
        page.heading("Along the outlines").text(_AROUND[curve.around])
        page.picture(pictures.trimap(curve), "Scores over the pixels within that distance.")
        page.table(["band (px)", "mean IoU (%)", "pixel accuracy (%)"], _curve_rows(curve))
    if evaluation.calibration:
        page.heading("Probabilities")
        page.picture(
            pictures.reliability(evaluation.calibration.reliability()),
            "How often the winning class is right against its probability; on the diagonal it could be believed.",
        )
    if worst := evaluation.worst(_WORST):
        page.heading("The worst photos").text(SIDE_BY_SIDE)
        add_photos(page, worst, predictor, dataset, windows, **options)
        page.picture(pictures.legend(dataset.classes.names, dataset.classes.palette), "The classes' colours.")
    return page.save(path)


def score_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What describes the whole, by name."""
    scores = evaluation.scores
    rows = [
        ("mean IoU", f"{scores.miou:.2%}"),
        ("pixel accuracy", f"{scores.pixel_accuracy:.2%}"),
        ("mean accuracy", f"{scores.mean_accuracy:.2%}"),
        ("frequency-weighted IoU", f"{scores.frequency_weighted_iou:.2%}"),
    ]
    if evaluation.boundary:
        rows.append(("mean boundary IoU", f"{evaluation.boundary.mean:.2%}"))
    if evaluation.calibration:
        rows.append(("expected calibration error", f"{evaluation.calibration.reliability().error:.2%}"))
    rows.append(("photos", str(len(evaluation.photos))))
    rows.append(("seconds a photo", f"{evaluation.seconds_per_photo:.3f}"))
    if evaluation.peak_memory is not None:
        rows.append(("peak memory (MB)", f"{evaluation.peak_memory / 1e6:,.0f}"))
    return rows


def class_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The header and a row for each class."""
    scores = evaluation.scores
    columns = {"IoU": scores.iou, "accuracy": scores.accuracy}
    if evaluation.boundary:
        columns["boundary IoU"] = evaluation.boundary.iou
    truths = evaluation.confusion.counts.sum(1)
    shares = truths / max(1, int(truths.sum()))
    rows = []
    for index, name in enumerate(evaluation.confusion.classes):
        values = (column[name] for column in columns.values())
        told = ["absent" if value is None else f"{value:.2%}" for value in values]
        rows.append([name, *told, f"{shares[index]:.2%}"])
    return ["class", *columns, "share of pixels"], rows


def add_confusion(page: Page, matrix: ConfusionMatrix) -> None:
    """The matrix as a picture, and the worst of it in numbers."""
    page.heading("Confusion")
    page.picture(pictures.confusion(matrix), "What each true class (row) was taken for (column), in % of it.")
    page.table(["truth", "taken for", "% of the truth", "% of all pixels"], _confusions(matrix))


def _confusions(matrix: ConfusionMatrix) -> list[list[str]]:
    """The pairs of classes that cost the most pixels, the worst first."""
    wrong = matrix.counts * (1 - np.eye(len(matrix.classes), dtype=np.int64))
    rows = []
    for at in np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]:
        truth, found = divmod(int(at), len(matrix.classes))
        if count := int(wrong[truth, found]):
            shares = (100 * count / int(whole) for whole in (matrix.counts[truth].sum(), matrix.counts.sum()))
            rows.append([matrix.classes[truth], matrix.classes[found], *(f"{share:.2f}" for share in shares)])
    return rows


def _curve_rows(curve: "TrimapCurve") -> list[list[str]]:
    kept = [curve.widths.index(width) for width in _SHOWN_WIDTHS]
    return [
        [str(curve.widths[at]), f"{100 * curve.miou[at]:.2f}", f"{100 * curve.pixel_accuracy[at]:.2f}"] for at in kept
    ]


def add_photos(
    page: Page,
    photos: Sequence[Photo],
    predictor: Predictor,
    dataset: SegmentationDataset,
    windows: Windows | None = None,
    **options: Unpack[Keywords],
) -> None:
    """A row for each photo, which is predicted once more: the photo, its truth and its prediction."""
    places = {photo: index for index, photo in enumerate(dataset.images)}
    results = predict_all(predictor, [photo.path for photo in photos], windows, **options)
    for photo, (result, _) in zip(photos, results, strict=True):
        if isinstance(result, Failure):  # it went away since it was judged
            continue
        truth = dataset.mask(places[photo.path])
        captions = [f"{photo.path.name}: mean IoU {photo.miou:.1%}", "truth", "prediction"]
        page.pictures(zip(side_by_side(result, truth, dataset.classes.palette), captions, strict=True))


def side_by_side(
    found: Segmentation, truth: NDArray[np.uint8], palette: Sequence[Sequence[int]], side: int = 512
) -> list[NDArray[np.uint8]]:
    """The photo, its true labels and the predicted ones, both laid over it: uint8 RGB of at most `side` pixels a side.

    Void keeps the photo's colours.
    """
    step = max(1, -(-max(truth.shape) // side))
    shown = [found.image, *(overlay(found.image, labels, palette, 0.7) for labels in (truth, found.labels))]
    return [np.ascontiguousarray(picture[::step, ::step]) for picture in shown]
