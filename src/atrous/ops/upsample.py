"""The end of the network: bilinear upsampling joined with what follows it.

The papers upsample the logits to the label map's size (v3, section 4.1: "keep the ground truths intact and
instead upsample the final logits"). Both functions take coarse logits, so that a caller never holds the
full-resolution ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError

_STRIP = 64  # rows upsampled at a time: a strip of 64 × 2048 × 21 floats is 11 MB and stays near the cache


def _taps(out_size: int, in_size: int, align_corners: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each output position: the lower input index, the upper one, and the upper one's weight."""
    position = torch.arange(out_size, device=device, dtype=torch.float32)
    if align_corners:
        position *= (in_size - 1) / (out_size - 1) if out_size > 1 else 0.0
    else:
        position = ((position + 0.5) * (in_size / out_size) - 0.5).clamp_(min=0)
    lower = position.floor().long().clamp_(max=in_size - 1)
    return lower, (lower + 1).clamp_(max=in_size - 1), position - lower


def upsample_argmax(
    logits: Tensor, size: tuple[int, int], align_corners: bool = True, crop: tuple[int, int] | None = None
) -> Tensor:
    """Labels of the bilinearly upsampled logits, without the upsampled logits.

    Args:
        logits: N×K×h×w, floating point, at most 256 classes.
        size: (H, W) that the logits stand for.
        align_corners: as in `torch.nn.functional.interpolate`.
        crop: only the top left (H', W') of the result is computed; the rest was padding.

    Returns:
        uint8 N×H×W (or N×H'×W'): the class of the largest logit, the lowest one where several are equal.

    Raises:
        AtrousError: more than 256 classes.
    """
    n, classes, h, w = logits.shape
    if classes > 256:
        raise AtrousError(f"upsample_argmax gives uint8 labels: {classes} classes are more than 256")
    height, width = crop or size
    if h == size[0] and w == size[1]:
        return logits[..., :height, :width].max(1).indices.to(torch.uint8)
    logits = logits.float()
    y0, y1, wy = (t[:height] for t in _taps(size[0], h, align_corners, logits.device))
    x0, x1, wx = (t[:width] for t in _taps(size[1], w, align_corners, logits.device))
    # max, not argmax: over a dimension that is not the last, torch's argmax takes ten times as long on the CPU.
    labels = torch.empty((n, height, width), dtype=torch.uint8, device=logits.device)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        strip = torch.lerp(logits[:, :, y0[rows]], logits[:, :, y1[rows]], wy[rows, None])
        labels[:, rows] = torch.lerp(strip[..., x0], strip[..., x1], wx).max(1).indices.to(torch.uint8)
    return labels


def upsample_cross_entropy(
    logits: Tensor,
    target: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    weight: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of the bilinearly upsampled logits against the intact ground truth.

    Args:
        logits: N×K×h×w, any floating type; the loss is taken in float32 or wider.
        target: N×H×W integers in 0..K-1, or `ignore_index`.
        weight: K class weights; the loss is then the weighted mean, as in torch.

    Returns:
        A scalar: the mean over the pixels that are not ignored; 0 (with a gradient of 0) if all are.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    full = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    target = target.long()
    total = F.cross_entropy(full, target, weight=weight, ignore_index=ignore_index, reduction="sum")
    valid = target != ignore_index
    count = valid.sum() if weight is None else weight[target.where(valid, torch.zeros_like(target))][valid].sum()
    return total / count.clamp(min=torch.finfo(torch.float32).tiny if weight is not None else 1)
