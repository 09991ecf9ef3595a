"""Bilinear resizing with a quick gradient on the CPU.

Torch's gradient of a channels-last map is a loop over the small map's pixels that no cache helps. Resizing is linear in
each direction, so that its gradient is two matrix products with matrices of a few dozen rows.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.ops.taps import bilinear_taps
from atrous.ops.tracing import is_traced


def resize(x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """N×C×h×w to N×C×H×W, as `torch.nn.functional.interpolate` does it bilinearly, and with its gradient."""
    ours = (
        x.requires_grad
        and torch.is_grad_enabled()
        and x.device.type == "cpu"
        and x.dtype != torch.float64
        and x.is_contiguous(memory_format=torch.channels_last)
        and not is_traced()
    )
    if ours:
        return _Resize.apply(x, size, align_corners)  # type: ignore[no-any-return,no-untyped-call]
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


class _Resize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
        ctx.size, ctx.align_corners = x.shape[-2:], align_corners
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        n, channels, height, width = grad.shape
        h, w = ctx.size
        # Columns first: a gradient that is a slice of a concatenation's need not be copied for it.
        table = grad.float().permute(0, 2, 3, 1).reshape(n * height, width, channels)
        columns = _matrix(width, w, ctx.align_corners) @ table
        both = _matrix(height, h, ctx.align_corners) @ columns.view(n, height, w * channels)
        return both.view(n, h, w, channels).permute(0, 3, 1, 2).to(grad.dtype), None, None


def _matrix(full: int, coarse: int, align_corners: bool) -> Tensor:
    """coarse×full: how much of each of the large map's positions came from each of the small map's."""
    first, second, weight = bilinear_taps(full, coarse, align_corners, torch.device("cpu"))
    places = torch.arange(full, device="cpu")
    matrix = torch.zeros((coarse, full), dtype=weight.dtype, device="cpu")
    matrix.index_put_((first, places), 1 - weight, accumulate=True)
    return matrix.index_put_((second, places), weight, accumulate=True)
