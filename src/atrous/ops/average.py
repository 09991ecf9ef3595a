"""The mean of the softmax over several views of photos, at the photos' size, without a full-size map for each view.

(v3, section 4.1 "Inference strategy on val set"; `predict_labels_multi_scale` in the released code.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from atrous.ops.taps import Taps
from atrous.ops.triton_here import takes_triton

_STRIP_FLOATS = 1 << 22  # 16 MB: probabilities of so many pixels × classes are held at a time


@dataclass(frozen=True)
class View:
    """Coarse logits float32 N×K×h×w of photos, and where on them the photos' pixels lie."""

    logits: Tensor
    rows: Taps[Tensor]
    columns: Taps[Tensor]


def average_views(groups: Sequence[Sequence[View]], scores: bool) -> tuple[Tensor, Tensor | None]:
    """Labels by the largest mean probability, and the mean probabilities if they are asked for.

    Args:
        groups: one view, or two whose probabilities are summed first: a view and its mirrored one, of one size and
            with the same rows, so that a mirrored photo gives the mirrored sum exactly. N, K and the number of
            pixels are those of the photos, and the same for all.

    Returns:
        uint8 N×H×W, and float32 N×K×H×W or None, both on the logits' device.
    """
    first = groups[0][0]
    n, classes = first.logits.shape[:2]
    height, width = len(first.rows.lower), len(first.columns.lower)
    device = first.logits.device
    labels = torch.empty((n, height, width), dtype=torch.uint8, device=device)
    probabilities = torch.empty((n, classes, height, width), dtype=torch.float32, device=device) if scores else None
    if device.type == "cpu":
        from atrous.ops import average_cpu

        average_cpu.average(groups, labels, probabilities)
        return labels, probabilities
    if takes_triton(first.logits):
        from atrous.ops import average_cuda

        average_cuda.average(groups, labels, probabilities)
        return labels, probabilities
    for rows, mean in reference_average(groups):
        # Tensor.argmax over a dimension that is not the last is some ten times as slow on the CPU.
        labels[:, rows] = mean.max(1).indices.to(torch.uint8)
        if probabilities is not None:
            probabilities[:, :, rows] = mean
    return labels, probabilities


def reference_average(groups: Sequence[Sequence[View]]) -> Iterator[tuple[slice, Tensor]]:
    """The mean probabilities in plain torch, from the top down in strips: (rows, N×K×R×W)."""
    first = groups[0][0]
    n, classes = first.logits.shape[:2]
    height, width = len(first.rows.lower), len(first.columns.lower)
    step = max(1, _STRIP_FLOATS // (n * classes * width))
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        sums = (reduce(Tensor.add_, (_probabilities(view, rows) for view in group)) for group in groups)
        yield rows, reduce(Tensor.add_, sums).div_(sum(len(group) for group in groups))


def _probabilities(view: View, rows: slice) -> Tensor:
    """N×K×R×W, at the photos' own size."""
    lower, upper, weight = (each[rows] for each in view.rows)
    # Only the coarse rows under this strip are stretched along the width.
    first, last = int(lower[0]), int(upper[-1])
    coarse = view.logits[:, :, first : last + 1]
    wide = torch.lerp(coarse[..., view.columns.lower], coarse[..., view.columns.upper], view.columns.weight)
    return torch.lerp(wide[:, :, lower - first], wide[:, :, upper - first], weight[:, None]).softmax(1)
