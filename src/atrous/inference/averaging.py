"""Multi-scale and mirrored prediction: the mean of the softmax over all views, as in the papers' code.

(v3, section 4.1 "Inference strategy on val set"; `predict_labels_multi_scale` in the released code.)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.inference.network import Image, Network

_STRIP_FLOATS = 1 << 22  # 16 MB: probabilities of so many pixels × classes are held at a time


class _Taps(NamedTuple):
    """For each pixel along one side of a photo: the coarse sample below it, the one above, the latter's weight."""

    lower: Tensor
    upper: Tensor
    weight: Tensor


@dataclass(frozen=True)
class _View:
    """Coarse logits N×K×h×w of photos seen at one scale, and where on them the photos' pixels lie."""

    logits: Tensor
    rows: _Taps
    columns: _Taps

    def probabilities(self, rows: slice) -> Tensor:
        """N×K×R×W, at the photos' own size."""
        lower, upper, weight = (each[rows] for each in self.rows)
        # Only the coarse rows under this strip are stretched along the width.
        first, last = int(lower[0]), int(upper[-1])
        coarse = self.logits[:, :, first : last + 1]
        wide = torch.lerp(coarse[..., self.columns.lower], coarse[..., self.columns.upper], self.columns.weight)
        return torch.lerp(wide[:, :, lower - first], wide[:, :, upper - first], weight[:, None]).softmax(1)


def averaged_probabilities(
    network: Network, photos: Sequence[Image], scales: Sequence[float], flip: bool
) -> Iterator[tuple[slice, Tensor]]:
    """The mean probabilities of photos of one size, from the top down in strips of rows.

    Only the coarse logits of the views and one strip of full-size probabilities are held at a time.

    Yields:
        (rows, float32 N×K×R×W on the network's device).
    """
    height, width, _ = photos[0].shape
    by_scale = list(_views(network, photos, scales, flip))
    classes = by_scale[0][0].logits.shape[1]
    step = max(1, _STRIP_FLOATS // (len(photos) * classes * width))
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        # A view and its mirror are summed first: a mirrored photo then gives the mirrored sum, exactly.
        sums = (_sum(view.probabilities(rows) for view in views) for views in by_scale)
        yield rows, _sum(sums).div_(sum(len(views) for views in by_scale))


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    """In place of the first, one after another."""
    return reduce(Tensor.add_, tensors)


def _views(network: Network, photos: Sequence[Image], scales: Sequence[float], flip: bool) -> Iterator[list[_View]]:
    height, width, _ = photos[0].shape
    aligned = network.model.align_corners
    original = network.normalise(photos, (height, width))
    for scale in scales:
        scaled = _scaled_side(height, scale, aligned), _scaled_side(width, scale, aligned)
        x = original
        if scaled != (height, width):
            x = F.interpolate(original, scaled, mode="bilinear", align_corners=aligned)
        padded = network.padded(*scaled)
        # Mirrored before it is padded: the padding then lies on the right of both.
        logits = [network.coarse_logits(network.pad(each)) for each in ([x, x.flip(3)] if flip else [x])]
        coarse = logits[0].shape[-2:]
        rows = _taps(height, scaled[0], padded[0], coarse[0], aligned, network.device)
        columns = _taps(width, scaled[1], padded[1], coarse[1], aligned, network.device)
        mirrored = _Taps(*(each.flip(0) for each in columns))
        yield [_View(each, rows, along) for each, along in zip(logits, (columns, mirrored), strict=False)]


def _scaled_side(side: int, scale: float, align_corners: bool) -> int:
    # With aligned corners the distance between the corner pixels is scaled, as in the released code.
    return max(1, int((side - 1) * scale + 1) if align_corners else round(side * scale))


def _taps(size: int, scaled: int, padded: int, coarse: int, align_corners: bool, device: torch.device) -> _Taps:
    """Along one side: `size` pixels of a photo, which was scaled, then padded, then seen as `coarse` samples.

    One bilinear interpolation straight from the coarse grid, instead of upsampling to the scaled image,
    cropping the padding and resizing once more.
    """
    position = torch.arange(size, dtype=torch.float64)
    if align_corners:
        position *= (scaled - 1) / max(size - 1, 1) * (coarse - 1) / max(padded - 1, 1)
    else:
        position = (position + 0.5) * (scaled / size) * (coarse / padded) - 0.5
    position = position.clamp(0, coarse - 1)
    lower = position.floor().long()
    upper = (lower + 1).clamp(max=coarse - 1)
    return _Taps(lower.to(device), upper.to(device), (position - lower).float().to(device))
