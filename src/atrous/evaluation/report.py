"""An evaluation as one HTML page: scores, plots, and the photos that went worst."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from atrous.data import SegmentationDataset
from atrous.evaluation import pictures
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.evaluation.evaluate import predict_all
from atrous.evaluation.evaluation import Evaluation
from atrous.evaluation.windows import Windows
from atrous.inference import Failure, Predictor
from atrous.inference.labelling import Keywords
from atrous.viz import Page, overlay

if TYPE_CHECKING:
    from atrous.evaluation.trimap import TrimapCurve

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
    page.heading("Confusion")
    page.picture(
        pictures.confusion(evaluation.confusion),
        "What each true class (row) was taken for (column), in % of it.",
    )
    page.table(["truth", "taken for", "% of the truth", "% of all pixels"], _confusions(evaluation.confusion))
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
    _add_worst(page, evaluation, predictor, dataset, windows, options)
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


def _add_worst(
    page: Page,
    evaluation: Evaluation,
    predictor: Predictor,
    dataset: SegmentationDataset,
    windows: Windows | None,
    options: Keywords,
) -> None:
    worst = evaluation.worst(_WORST)
    if not worst:
        return
    page.heading("The worst photos").text("The photo, the truth (void keeps the photo's colours) and the prediction.")
    places = {photo: index for index, photo in enumerate(dataset.images)}
    results = predict_all(predictor, [photo.path for photo in worst], windows, **options)
    for photo, (result, _) in zip(worst, results, strict=True):
        if isinstance(result, Failure):  # it went away since it was judged
            continue
        truth = dataset.mask(places[photo.path])
        colours = dataset.classes.palette
        shown = [result.image, *(overlay(result.image, labels, colours, 0.7) for labels in (truth, result.labels))]
        captions = [f"{photo.path.name}: mean IoU {photo.miou:.1%}", "truth", "prediction"]
        page.pictures(zip(map(_small, shown), captions, strict=True))
    page.picture(pictures.legend(dataset.classes.names, dataset.classes.palette), "The classes' colours.")


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most some 500 pixels a side: the page holds many of them."""
    step = max(1, -(-max(picture.shape[:2]) // 512))
    return np.ascontiguousarray(picture[::step, ::step])
