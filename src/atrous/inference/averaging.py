"""Multi-scale and mirrored prediction: the mean of the softmax over all views, as in the papers' code.

(v3, section 4.1 "Inference strategy on val set"; `predict_labels_multi_scale` in the released code.)
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.inference.network import Image, Network
from atrous.ops import Taps, View, average_views, taps_at


def average_photos(
    network: Network, photos: Sequence[Image], scales: Sequence[float], flip: bool, scores: bool
) -> tuple[Tensor, Tensor | None]:
    """Labels of photos of one size by their mean probabilities, uint8 N×H×W; and those, float32 N×K×H×W, if asked for.

    Only the coarse logits of the views are held, and the probabilities where somebody wants them.
    """
    return average_views(list(_views(network, photos, scales, flip)), scores)


def _views(network: Network, photos: Sequence[Image], scales: Sequence[float], flip: bool) -> Iterator[list[View]]:
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
        mirrored = Taps(*(each.flip(0) for each in columns))
        yield [View(each, rows, along) for each, along in zip(logits, (columns, mirrored), strict=False)]


def _scaled_side(side: int, scale: float, align_corners: bool) -> int:
    # With aligned corners the distance between the corner pixels is scaled, as in the released code.
    return max(1, int((side - 1) * scale + 1) if align_corners else round(side * scale))


def _taps(size: int, scaled: int, padded: int, coarse: int, align_corners: bool, device: torch.device) -> Taps[Tensor]:
    """Along one side: `size` pixels of a photo, which was scaled, then padded, then seen as `coarse` samples.

    One bilinear interpolation straight from the coarse grid, instead of upsampling to the scaled image,
    cropping the padding and resizing once more.
    """
    position = torch.arange(size, dtype=torch.float64)
    if align_corners:
        position *= (scaled - 1) / max(size - 1, 1) * (coarse - 1) / max(padded - 1, 1)
    else:
        position = (position + 0.5) * (scaled / size) * (coarse / padded) - 0.5
    return Taps(*(each.to(device) for each in taps_at(position, coarse)))
