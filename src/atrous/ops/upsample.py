"""The end of the network: bilinear upsampling joined with what follows it.

The papers upsample the logits to the label map's size (v3, section 4.1: "keep the ground truths intact and
instead upsample the final logits"). Both functions take coarse logits, so that a caller never holds the
full-resolution ones. On the CPU they are loops of our own (`upsample_cpu`), on a GPU Triton kernels (`argmax_cuda`,
`cross_entropy_cuda`); `reference_argmax` and `reference_cross_entropy` are the same in plain torch, which other
devices and types use.
"""

import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from atrous.errors import AtrousError
from atrous.ops.gradients import gradients_again
from atrous.ops.taps import bilinear_taps
from atrous.ops.tracing import is_traced
from atrous.ops.triton_here import takes_triton

_LOOP_PAYS = 1 << 24  # pixels × classes: so many take the reference half a second
_STRIP = 64  # rows upsampled at a time: a strip of 64 × 2048 × 21 floats is 11 MB and stays near the cache


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
    classes = logits.shape[1]
    if classes > 256:
        raise AtrousError(f"upsample_argmax gives uint8 labels: {classes} classes are more than 256")
    height, width = crop or size
    if logits.shape[2:] != size and takes_triton(logits):
        from atrous.ops import argmax_cuda

        label = argmax_cuda.compiled_label if torch.compiler.is_compiling() else argmax_cuda.label
        return label(logits.detach(), size, align_corners, (height, width))
    elsewhere = logits.device.type != "cpu" or is_traced()
    if elsewhere or logits.shape[2:] == size or not _loop_pays(classes * size[0] * size[1]):
        return reference_argmax(logits, size, align_corners, crop)
    from atrous.ops import upsample_cpu

    logits = logits.detach().float()
    rows, columns = (
        upsample_cpu.side(full, coarse, align_corners, kept)
        for full, coarse, kept in zip(size, logits.shape[2:], (height, width), strict=True)
    )
    channels_last = logits.permute(0, 2, 3, 1).contiguous().numpy()
    return torch.from_numpy(upsample_cpu.label(channels_last, rows, columns))


_seen = 0


def _loop_pays(work: int) -> bool:
    """Whether to wait for numba, which takes half a second to import: not for the first few photos.

    The reference gives the same labels: it does the same arithmetic in the same order.
    """
    global _seen
    _seen += work
    return "numba" in sys.modules or _seen > _LOOP_PAYS


def reference_argmax(
    logits: Tensor, size: tuple[int, int], align_corners: bool = True, crop: tuple[int, int] | None = None
) -> Tensor:
    """`upsample_argmax` in plain torch, a strip of rows at a time."""
    n, _, h, w = logits.shape
    height, width = crop or size
    if h == size[0] and w == size[1]:
        return logits[..., :height, :width].max(1).indices.to(torch.uint8)
    logits = logits.float()
    y0, y1, wy = (t[:height] for t in bilinear_taps(size[0], h, align_corners, logits.device))
    x0, x1, wx = (t[:width] for t in bilinear_taps(size[1], w, align_corners, logits.device))
    # max, not argmax: over a dimension that is not the last, torch's argmax takes ten times as long on the CPU.
    labels = torch.empty((n, height, width), dtype=torch.uint8, device=logits.device)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(top + _STRIP, height))
        strip = _between(logits[:, :, y0[rows]], logits[:, :, y1[rows]], wy[rows, None])
        labels[:, rows] = _between(strip[..., x0], strip[..., x1], wx).max(1).indices.to(torch.uint8)
    return labels


def _between(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """start + weight · (end - start), each step rounded, as in `upsample_cpu`; `torch.lerp` fuses some of them."""
    return (end - start).mul_(weight).add_(start)


def upsample_cross_entropy(
    logits: Tensor,
    target: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    weight: Tensor | None = None,
    hardest: float = 1.0,
) -> Tensor:
    """Cross-entropy of the bilinearly upsampled logits against the intact ground truth.

    Args:
        logits: N×K×h×w, any floating type; the loss is taken in float32 or wider.
        target: N×H×W integers in 0..K-1, or `ignore_index`.
        weight: K class weights; the loss is then the weighted mean, as in torch.
        hardest: the share of the pixels, those of the largest loss, that count (hard-pixel mining); all as it stands.

    Returns:
        A scalar: the mean over the pixels that count and are not ignored; 0 (with a gradient of 0) if none is left.

    Raises:
        AtrousError: a target of another shape, or with a label that is neither a class nor `ignore_index`; a share that
            is not above 0 and up to 1.
    """
    if not 0 < hardest <= 1:
        raise AtrousError(f"hardest={hardest} is not a share of the pixels: give more than 0, at most 1")
    check_target(target, len(logits))
    if target.dtype in (torch.uint16, torch.uint32, torch.uint64):  # of which torch can do next to nothing
        target = target.long()
    if takes_triton(logits):
        from atrous.ops.cross_entropy_cuda import cross_entropy

        if not torch.compiler.is_compiling():
            _check_labels(target, logits.shape[1], ignore_index)
        loss: Tensor = cross_entropy(logits, target, ignore_index, align_corners, weight, hardest)[0]
        return loss
    if logits.device.type != "cpu" or logits.dtype == torch.float64 or is_traced():
        return reference_cross_entropy(logits, target, ignore_index, align_corners, weight, hardest)
    return _UpsampleCrossEntropy.apply(logits, target, ignore_index, align_corners, weight, hardest)  # type: ignore[no-any-return,no-untyped-call]


def reference_cross_entropy(
    logits: Tensor,
    target: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    weight: Tensor | None = None,
    hardest: float = 1.0,
) -> Tensor:
    """`upsample_cross_entropy` in plain torch, through the full-size logits."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    full = F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)
    target = target.long()
    losses = F.cross_entropy(full, target, ignore_index=ignore_index, reduction="none")
    counts = target != ignore_index
    if hardest < 1:
        counts = counts & (losses.detach() >= _least_of(losses.detach()[counts], hardest))
    if weight is None:
        return losses[counts].sum() / counts.sum().clamp(min=1)
    shares = weight.to(losses.dtype)[target[counts]]
    return (losses[counts] * shares).sum() / shares.sum().clamp(min=torch.finfo(torch.float32).tiny)


def _least_of(losses: Tensor, hardest: float) -> float:
    """The smallest loss among the hardest share of the pixels."""
    count = losses.numel()
    if count == 0:
        return 0.0
    return float(losses.flatten().kthvalue(count - max(1, round(count * hardest)) + 1).values)


class _UpsampleCrossEntropy(torch.autograd.Function):
    """Takes the gradient along with the loss: the pass over the pixels is the same one."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        ignore_index: int,
        align_corners: bool,
        weight: Tensor | None,
        hardest: float,
    ) -> Tensor:
        from atrous.ops import upsample_cpu
        from atrous.ops.softmax_cpu import padded_channels_last

        _, classes, h, w = logits.shape
        _check_labels(target, classes, ignore_index)
        source = padded_channels_last(logits)
        rows, columns = (
            upsample_cpu.side(full, coarse, align_corners, full)
            for full, coarse in zip(target.shape[-2:], (h, w), strict=True)
        )
        weights = torch.ones(classes, dtype=torch.float32, device="cpu") if weight is None else weight.detach().float()

        pixels = upsample_cpu.Pixels(target.numpy(), ignore_index, weights.numpy(), rows, columns)

        def run(losses: NDArray[np.float32] | None, least: float, gradient: bool) -> tuple[float, float, Any]:
            return upsample_cpu.cross_entropy(source, classes, pixels, losses, least, gradient)

        least = -np.inf
        if hardest < 1:
            losses = torch.empty(target.shape, dtype=torch.float32, device="cpu")
            run(losses.numpy(), least, False)
            least = _least_of(losses[target != ignore_index], hardest)
        total, count, gradient = run(None, least, ctx.needs_input_grad[0])
        count = max(count, float(torch.finfo(torch.float32).tiny))
        if ctx.needs_input_grad[0]:
            back = torch.from_numpy(gradient)[..., :classes].permute(0, 3, 1, 2) / count
            ctx.save_for_backward(back.to(logits.dtype))
            ctx.given = logits, target, weight, (ignore_index, align_corners, hardest)
        return torch.tensor(total / count, dtype=torch.float32, device="cpu")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            logits, target, weight, (ignored, aligned, hardest) = ctx.given
            found = gradients_again(
                lambda x: reference_cross_entropy(x, target, ignored, aligned, weight, hardest), [logits], [True], grad
            )
            return *found, None, None, None, None, None
        return gradient * grad, None, None, None, None, None


def check_target(target: Tensor, images: int) -> None:
    """Raises AtrousError where a target is not N×H×W whole numbers."""
    if target.ndim != 3 or len(target) != images:
        raise AtrousError(f"a target of shape {tuple(target.shape)} for {images} images: it is N×H×W")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise AtrousError(f"a target of {target.dtype}: labels are whole numbers; give target.long()")


def _check_labels(target: Tensor, classes: int, ignore_index: int) -> None:
    """A label out of range would be read out of memory that is not the logits'."""
    if target.numel() == 0:
        return
    low, high = (int(value) for value in target.aminmax())
    if low < 0 or high >= classes:
        outside = target[(target != ignore_index) & ((target < 0) | (target >= classes))]
        if outside.numel():
            raise AtrousError(
                f"the target holds {int(outside[0])}: labels are 0 to {classes - 1}, or {ignore_index} where ignored"
            )
