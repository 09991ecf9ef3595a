"""The CRF's weight and widths by cross-validation, as v1 (section 5.1) and v2 (section 4.1.3) found theirs.

Both fix the spatial kernel at weight 3 and width 3, and search the bilateral weight and both its widths on some 100
validation photos "employing coarse-to-fine search".
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from atrous.crf import CRFParams, mean_field, unary_from_probabilities
from atrous.data import SegmentationDataset
from atrous.errors import AtrousError, DataError, ImageError
from atrous.evaluation.confusion import ConfusionMatrix
from atrous.files import replacing
from atrous.inference import Failure, Predictor
from atrous.inference.labelling import Keywords

_SEARCHED = ("bilateral_weight", "bilateral_sxy", "bilateral_srgb")
_RANGES = ((3.0, 10.0), (30.0, 100.0), (3.0, 10.0))  # v1's and v2's together
_STAGES = 3
_TRIED_IN_A_STAGE = 27
_LEAST = 0.01  # labels that are nowhere this probable are left out, as in prediction

TRIALS = 2 + _STAGES * _TRIED_IN_A_STAGE


@dataclass(frozen=True)
class Fit:
    """What a search came to.

    Attributes:
        params: the best ones.
        miou: what they score.
        without: what the network alone scores.
        tried: all that were tried, with their scores.
    """

    params: CRFParams
    miou: float
    without: float
    tried: dict[CRFParams, float]

    def save(self, path: str | Path, comment: str = "") -> None:
        """Writes the parameters as YAML that `atrous.crf.parse_crf` reads.

        Raises:
            AtrousError: the file cannot be written.
        """
        lines = [
            *comment.splitlines(),
            f"mean IoU {self.miou:.2%}, {self.without:.2%} without a CRF; {len(self.tried)} were tried",
        ]
        values = {name: float(value) for name, value in asdict(self.params).items()}
        text = "".join(f"# {line}\n" for line in lines) + yaml.safe_dump(values, sort_keys=False)
        with replacing(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class _Sample:
    """A photo, the energies of the labels that take part, their indices, and the truth."""

    image: NDArray[np.uint8]
    unary: NDArray[np.float32]
    labels: NDArray[np.int64]
    truth: NDArray[np.uint8]


def fit_crf(
    predictor: Predictor,
    dataset: SegmentationDataset,
    photos: int = 100,
    start: CRFParams | None = None,
    progress: Callable[[float], None] = lambda _: None,
    **options: Unpack[Keywords],
) -> Fit:
    """Searches the bilateral kernel's weight and widths for the best mean IoU; the spatial kernel is `start`'s.

    Three values of each are tried in all 27 combinations, over v1's and v2's ranges; then twice more around the best,
    at half the distance each time. The photos' energies are all held: 4 bytes a pixel for each label that takes part.

    Args:
        photos: so many of the data set are used, evenly spaced.
        progress: called with the share of the work that is done since the last call; 1 in all.
        options: how to predict, as for `Predictor`.

    Raises:
        DataError: classes that are not the model's, or a mask that is not of its photo's size.
        ImageError: a photo cannot be read.
        AtrousError: an impossible option.
    """
    if photos < 1:
        raise AtrousError(f"photos={photos}: give 1 or more")
    if dataset.classes.names != predictor.classes:
        raise DataError(f"{dataset.root}: its classes are not the model's")
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(photos, len(dataset))).astype(int))
    share = 1 / (TRIALS * len(chosen))
    samples = []
    without = ConfusionMatrix(dataset.classes.names, dataset.classes.ignore_index)
    given: Keywords = {**options, "scores": True, "crf": False}
    for index, result in zip(chosen, predictor.stream([dataset.images[i] for i in chosen], **given), strict=True):
        if isinstance(result, Failure):
            raise ImageError(result.message)
        truth = dataset.mask(int(index))
        if truth.shape != result.labels.shape:
            raise DataError(f"{dataset.masks[index]}: is not of its photo's size")
        without.add(truth, result.labels)
        scores = result.scores()
        labels = np.flatnonzero(scores.max((1, 2)) >= _LEAST)
        unary = unary_from_probabilities(torch.from_numpy(scores[labels])).numpy()
        samples.append(_Sample(result.image, unary, labels, truth))
        progress(share)
    tried: dict[CRFParams, float] = {}

    def score(params: CRFParams) -> float:
        if params in tried:
            progress(share * len(samples))
            return tried[params]
        matrix = ConfusionMatrix(dataset.classes.names, dataset.classes.ignore_index)
        for sample in samples:
            q = torch.from_numpy(mean_field(sample.unary, sample.image, params))
            matrix.add(sample.truth, sample.labels[q.max(0).indices.numpy()].astype(np.uint8))
            progress(share)
        tried[params] = matrix.scores().miou
        return tried[params]

    best = search(score, start or CRFParams())
    return Fit(best, tried[best], without.scores().miou, tried)


def search(score: Callable[[CRFParams], float], start: CRFParams) -> CRFParams:
    """The best of those tried: `start`, 27 over the ranges, then twice 27 around the best at half the distance."""
    best, highest = start, score(start)
    centre = [(low + high) / 2 for low, high in _RANGES]
    steps = [(high - low) / 2 for low, high in _RANGES]
    for _ in range(_STAGES):
        axes = [(c - s, c, c + s) for c, s in zip(centre, steps, strict=True)]
        for values in product(*axes):
            inside = (min(max(value, low / 2), high * 2) for value, (low, high) in zip(values, _RANGES, strict=True))
            params = replace(start, **dict(zip(_SEARCHED, inside, strict=True)))
            reached = score(params)
            if reached > highest:
                best, highest = params, reached
        centre = [getattr(best, name) for name in _SEARCHED]
        steps = [step / 2 for step in steps]
    return best
