"""A predictor against a labelled folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from atrous.data import SegmentationFolder
from atrous.errors import DataError, ImageError
from atrous.evaluation.confusion import ConfusionMatrix, Scores
from atrous.inference import Failure, Predictor


def evaluate(
    predictor: Predictor,
    data: str | Path | SegmentationFolder,
    *,
    split: str = "val",
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    batch_size: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Predicts every photo of a split at its own size and compares it with its mask.

    Args:
        data: a folder laid out as `images/<split>/`, `masks/<split>/`, `classes.json`.
        scales, flip: as in `Predictor`.
        progress: called with (done, total) after each photo.

    Raises:
        DataError: the folder does not fit, or its classes are not the model's.
        ImageError: a photo cannot be read; a score over part of a split would mean nothing.
    """
    folder = data if isinstance(data, SegmentationFolder) else SegmentationFolder(data, split)
    if folder.classes.names != predictor.classes:
        ours, theirs = ", ".join(predictor.classes), ", ".join(folder.classes.names)
        raise DataError(f"{folder.root}: its classes ({theirs}) are not the model's ({ours})")
    matrix = ConfusionMatrix(folder.classes.names, folder.classes.ignore_index)
    results = predictor.stream(folder.images, batch_size=batch_size, scales=scales, flip=flip)
    for index, result in enumerate(results):
        if isinstance(result, Failure):
            raise ImageError(result.message)
        truth = folder.mask(index)
        if truth.shape != result.labels.shape:
            raise DataError(f"{folder.masks[index]}: is not of its photo's size")
        matrix.add(truth, result.labels)
        if progress:
            progress(index + 1, len(folder))
    return matrix.scores()
