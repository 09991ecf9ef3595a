"""A written file, opened by its own runtime, beside torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.data.blotches import blotches
from atrous.export.deployed import Deployed, Size

Photos = NDArray[np.uint8]
Run = Callable[[Photos], NDArray[Any]]
COMPARED_AT: tuple[Size, ...] = ((513, 513), (97, 131))


@dataclass(frozen=True)
class Comparison:
    """How two outputs differ.

    Attributes:
        deviation: of the logits, relative, in norm. Where only labels come out, by how much torch prefers its own
            label to the runtime's, at worst, in units of the logits' root mean square: 0 where all are equal, next
            to nothing where two classes tie.
        agreement: the share of equal labels.
    """

    deviation: float
    agreement: float


def compare(deployed: Deployed, run: Run, sizes: Sequence[Size]) -> Comparison:
    """The worst of a photo of each size; in a batch of two where a size is small."""
    found = [compare_on(deployed, run, np.stack([blotches(*size)] * _batch(size))) for size in sizes]
    return Comparison(max(each.deviation for each in found), min(each.agreement for each in found))


def compare_on(deployed: Deployed, run: Run, photos: Photos) -> Comparison:
    """On uint8 N×H×W×3."""
    with torch.inference_mode():
        ours = deployed.logits(torch.from_numpy(photos))
    theirs = torch.from_numpy(np.ascontiguousarray(run(photos)))
    labels = ours.argmax(1)
    if deployed.output == "logits":
        deviation = (theirs - ours).norm() / ours.norm()
        return Comparison(float(deviation), float((theirs.argmax(1) == labels).float().mean()))
    lost = ours.max(1).values - ours.gather(1, theirs.long()[:, None])[:, 0]
    return Comparison(float(lost.max() / ours.square().mean().sqrt()), float((theirs == labels).float().mean()))


def _batch(size: Size) -> int:
    return 2 if size[0] * size[1] < 200 * 200 else 1
