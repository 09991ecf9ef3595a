"""A predictor against labelled data."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
import torch

from atrous.data import SegmentationDataset, open_dataset
from atrous.errors import AtrousError, DataError, ImageError
from atrous.evaluation.boundary import BoundaryIoU
from atrous.evaluation.calibration import Calibration
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.evaluation.evaluation import Evaluation, Photo
from atrous.evaluation.processes import gather, share
from atrous.evaluation.trimap import Trimap
from atrous.evaluation.windows import Timed, Windows, predict_in_windows
from atrous.inference import Failure, Predictor, Segmentation, load
from atrous.inference.labelling import Keywords


def evaluate(
    predictor: Predictor | str | Path,
    data: str | Path | SegmentationDataset,
    *,
    split: str = "val",
    trimap: Literal["auto", "void", "edges"] | None = None,
    boundary: bool = False,
    calibration: bool = False,
    windows: Windows | None = None,
    distributed: bool = False,
    seen: Callable[[Segmentation], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Unpack[Keywords],
) -> Evaluation:
    """Predicts every photo of a split at its own size and compares it with its mask.

    A few photos' predictions are held at a time, whatever the split's length; what is kept of one is counts.

    Args:
        predictor: or what `atrous.load` opens.
        data: a data set, or the folder of one; see `atrous.data.open_dataset`.
        trimap: scores in bands around void or around the edges of the labels; see `Trimap`.
        boundary: boundary IoU.
        calibration: the expected calibration error, for which the probabilities are kept photo by photo.
        windows: predict in sliding windows, and average where they overlap.
        distributed: each process of torch.distributed's default group takes its share of the photos, and every one
            returns the whole; all of them must call.
        seen: called with each prediction, e.g. to write it.
        progress: called with (done, total) after each photo of this process.
        options: how to predict, as for `Predictor`: `scales`, `flip`, `tile`, `batch_size`, ...

    Raises:
        DataError: the data set does not fit, or its classes are not the model's.
        ImageError: a photo cannot be read; a score over part of a split would mean nothing.
        AtrousError: an impossible option.
    """
    if not isinstance(predictor, Predictor):
        predictor = load(predictor)
    dataset = data if isinstance(data, SegmentationDataset) else open_dataset(data, split)
    names, ignored = dataset.classes.names, dataset.classes.ignore_index
    if names != predictor.classes:
        known, given = ", ".join(predictor.classes), ", ".join(names)
        raise DataError(f"{dataset.root}: its classes ({given}) are not the model's ({known})")
    if trimap not in (None, "auto", "void", "edges"):
        raise AtrousError(f"trimap={trimap!r} is unknown: give auto, void or edges")
    counted = Evaluation(
        ConfusionMatrix(names, ignored),
        trimap=Trimap(names, ignored, trimap) if trimap else None,
        boundary=BoundaryIoU(names, ignored) if boundary else None,
        calibration=Calibration(ignored) if calibration else None,
    )
    ours = share(len(dataset)) if distributed else range(len(dataset))
    if predictor.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(predictor.device)
    photos = []
    options["scores"] = calibration or options.get("scores", False)
    results = predict_all(predictor, [dataset.images[index] for index in ours], windows, **options)
    for done, (index, (result, seconds)) in enumerate(zip(ours, results, strict=True), 1):
        if isinstance(result, Failure):
            raise ImageError(result.message)
        photos.append(_judge(counted, dataset, index, result, seconds))
        if seen:
            seen(result)
        if progress:
            progress(done, len(ours))
    part = Evaluation(
        counted.confusion, tuple(photos), counted.trimap, counted.boundary, counted.calibration, _peak(predictor.device)
    )
    return gather(part) if distributed else part


def predict_all(
    predictor: Predictor, photos: list[Path], windows: Windows | None, **options: Unpack[Keywords]
) -> Iterator[Timed]:
    """Each photo's prediction and the seconds that it took, one after another."""
    if windows:
        return predict_in_windows(predictor, photos, windows, **options)
    return predictor.timed_stream(photos, lambda _: None, **options)


def _judge(
    counted: Evaluation, dataset: SegmentationDataset, index: int, result: Segmentation, seconds: float
) -> Photo:
    truth, found = dataset.mask(index), result.labels
    if truth.shape != found.shape:
        raise DataError(f"{dataset.masks[index]}: is not of its photo's size")
    alone = ConfusionMatrix(counted.confusion.classes, counted.confusion.ignore_index)
    alone.add(truth, found)
    counted.confusion.merge(alone)
    if counted.trimap:
        counted.trimap.add(truth, found)
    if counted.boundary:
        counted.boundary.add(truth, found)
    if counted.calibration:
        # Not the largest probability: what a CRF or equal ones chose is what is judged.
        confidence = np.take_along_axis(result.scores(), found[None].astype(np.intp), 0)[0]
        counted.calibration.add(truth, found, confidence)
    miou = alone.scores().miou if alone.counts.any() else None
    return Photo(dataset.images[index], miou, seconds)


def _peak(device: torch.device) -> int | None:
    """The most bytes that this process has held; on a GPU the most of its tensors since the evaluation began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
