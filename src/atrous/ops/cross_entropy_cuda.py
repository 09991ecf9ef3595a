"""Cross-entropy of upsampled logits on the GPU, forward and backward without the full-size logits.

Forward, each pixel's logits are blended one class at a time into a running sum of exponentials. Backward, they are
blended again a cell at a time, a cell being the pixels between four neighbouring coarse positions, and summed up into
the cell's corners. Nothing is added atomically: the same input gives the same bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from atrous.ops.bilinear_cuda import PIXELS, WARPS, blend, place, row_of, scale_of, value_of

_CELL_CLASSES = 32  # to a program of the gradient
_CELL_PIXELS = 128  # at a time, at most


# Both passes are operators of torch's, so that `torch.compile` takes them as they are.
@torch.library.custom_op(
    "atrous::upsample_cross_entropy",
    mutates_args=(),
    schema="(Tensor logits, Tensor target, int ignore_index, bool align_corners, Tensor? weight, float hardest)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
def cross_entropy(
    logits: Tensor, target: Tensor, ignore_index: int, align_corners: bool, weight: Tensor | None, hardest: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss of logits N×K×h×w in float32, float16 or bfloat16 against N×H×W labels, and what its gradient needs.

    Args:
        target: a label that is neither a class nor `ignore_index` counts as ignored.
        weight: K class weights.
        hardest: the share of the pixels that count, those of the largest loss.

    Returns:
        The loss; of each pixel the logarithm of the sum of its exponentials, and its weight in the loss, 0 where it
        does not count; the sum of all weights.
    """
    n, classes, h, w = logits.shape
    _, height, width = target.shape
    losses, normalisers, shares = (torch.empty(target.shape, device=logits.device) for _ in range(3))
    weights = torch.ones(classes, device=logits.device) if weight is None else weight.to(losses).contiguous()
    strips = triton.cdiv(width, PIXELS)
    scales = scale_of(height, h, align_corners), scale_of(width, w, align_corners)
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        _losses[(n * height * strips,)](
            logits, *logits.stride(), target.contiguous(), weights, losses, normalisers, shares, ignore_index,
            height, width, strips, classes, h, w, *scales, align_corners, PIXELS,
            num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    if hardest < 1:
        shares.mul_(losses >= _least_of(losses, target != ignore_index, hardest))
    total = shares.sum().clamp_(min=torch.finfo(torch.float32).tiny)
    return losses.mul_(shares).sum() / total, normalisers, shares, total


@cross_entropy.register_fake
def _(logits: Tensor, target: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss, normalisers, shares, total = (
        logits.new_empty(shape, dtype=torch.float32) for shape in ((), target.shape, target.shape, ())
    )
    return loss, normalisers, shares, total


@torch.library.custom_op(
    "atrous::upsample_cross_entropy_backward",
    mutates_args=(),
    schema="(Tensor factor, Tensor logits, Tensor target, Tensor normalisers, Tensor shares, bool align_corners)"
    " -> Tensor",
)
def cross_entropy_backward(
    factor: Tensor, logits: Tensor, target: Tensor, normalisers: Tensor, shares: Tensor, align_corners: bool
) -> Tensor:
    """The gradient N×K×h×w of `factor` times the sum of the pixels' losses by their shares, in the logits' type."""
    n, classes, h, w = logits.shape
    _, height, width = target.shape
    gradient = torch.zeros((n, h, w, classes), device=logits.device)
    scales = scale_of(height, h, align_corners), scale_of(width, w, align_corners)
    inverses = (1 / scale if scale else float(full) for scale, full in zip(scales, (height, width), strict=True))
    pixels = min(max(16, triton.next_power_of_2(height // h * (width // w))), _CELL_PIXELS)
    some = min(triton.next_power_of_2(classes), _CELL_CLASSES)
    constants = *scales, *inverses, align_corners, pixels, some
    # Cells that lie two apart have no corner in common: each adds to what it finds there, all at once.
    for first_row, first_column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        rows, columns = (h - first_row + 1) // 2, (w - first_column + 1) // 2
        if rows and columns:
            with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
                _add_cells[(n * rows * columns, triton.cdiv(classes, some))](
                    logits, *logits.stride(), target.contiguous(), normalisers, shares, factor, gradient,
                    height, width, classes, h, w, rows, columns, first_row, first_column, *constants,
                    num_warps=max(1, pixels * some // 1024), enable_fp_fusion=False,
                )  # fmt: skip
    return gradient.permute(0, 3, 1, 2).to(logits.dtype)


@cross_entropy_backward.register_fake
def _(_factor: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits, memory_format=torch.channels_last)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, target, _, ctx.align_corners, _, _ = inputs
    _, normalisers, shares, total = output
    ctx.save_for_backward(logits, target, normalisers, shares, total)


def _backward(ctx: Any, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    *saved, total = ctx.saved_tensors
    return cross_entropy_backward(grad / total, *saved, ctx.align_corners), None, None, None, None, None


cross_entropy.register_autograd(_backward, setup_context=_keep)


def _least_of(losses: Tensor, counts: Tensor, hardest: float) -> Tensor:
    """The smallest loss among the hardest share of the pixels; nothing has to be told to the CPU."""
    ascending = losses.masked_fill(~counts, -torch.inf).flatten().sort().values
    kept = (counts.sum().double() * hardest).round().long().clamp_(min=1)
    return ascending.index_select(0, (losses.numel() - kept)[None])[0]  # a tensor as an index would be read first


@triton.jit  # type: ignore[untyped-decorator]
def _losses(  # type: ignore[no-untyped-def]
    logits, image_stride, class_stride, row_stride, column_stride, target, weights, losses, normalisers, shares,
    ignore_index, height, width, strips, classes: tl.constexpr, h, w, row_scale, column_scale, align: tl.constexpr,
    pixels: tl.constexpr,
):  # fmt: skip
    places, inside, above, below, left, right, down, along = row_of(
        logits, image_stride, row_stride, column_stride, height, width, strips, h, w, row_scale, column_scale, align,
        pixels,
    )  # fmt: skip
    index = tl.load(target + places, inside, 0).to(tl.int32)
    counts = inside & (index != ignore_index) & (index >= 0) & (index < classes)
    largest = value_of(above, below, left, right, inside, down, along)
    own, total = largest, tl.full((pixels,), 1.0, tl.float32)
    for k in range(1, classes):
        above += class_stride
        below += class_stride
        value = value_of(above, below, left, right, inside, down, along)
        smaller = tl.exp(-tl.abs(value - largest))
        total = tl.where(value > largest, total * smaller + 1.0, total + smaller)
        largest = tl.maximum(value, largest)
        own = tl.where(index == k, value, own)
    tl.store(losses + places, tl.where(counts, tl.log(total) + (largest - own), 0.0), inside)
    tl.store(normalisers + places, tl.log(total) + largest, inside)
    tl.store(shares + places, tl.load(weights + index, counts, 0.0), inside)


@triton.jit  # type: ignore[untyped-decorator]
def _first(index, full, scale, inverse, coarse, align: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first of `full` pixels whose lower coarse position is not before `index`.

    Found by division, then among those near by as `place` rounds them.
    """
    about = index * inverse if align else (index + 0.5) * inverse - 0.5
    start = tl.floor(about).to(tl.int32) - 4
    near = start + tl.arange(0, 8)
    lower, _ = place(near, scale, coarse, align)
    before = tl.sum((lower < index).to(tl.int32), 0)
    return tl.where(index > 0, tl.minimum(start + before, full), 0)


@triton.jit  # type: ignore[untyped-decorator]
def _add_cells(  # type: ignore[no-untyped-def]
    logits, image_stride, class_stride, row_stride, column_stride, target, normalisers, shares, factor, gradient,
    height, width, classes, h, w, rows, columns, first_row, first_column, row_scale, column_scale, row_inverse,
    column_inverse, align: tl.constexpr, pixels: tl.constexpr, some: tl.constexpr,
):  # fmt: skip
    """Adds to the corners of one cell what its pixels give them, for some of the classes."""
    cell = tl.program_id(0)
    image = (cell // (rows * columns)).to(tl.int64)
    i = cell // columns % rows * 2 + first_row
    j = cell % columns * 2 + first_column
    top = _first(i, height, row_scale, row_inverse, h, align)
    area = _first(i + 1, height, row_scale, row_inverse, h, align) - top
    begin = _first(j, width, column_scale, column_inverse, w, align)
    across = _first(j + 1, width, column_scale, column_inverse, w, align) - begin
    area *= across

    k = tl.program_id(1) * some + tl.arange(0, some)
    is_class = k < classes
    # Behind the last coarse position there is none: the pixels there have its value and give to it alone.
    has_below, has_right = i + 1 < h, j + 1 < w
    below, right = tl.minimum(i + 1, h - 1).to(tl.int64), tl.minimum(j + 1, w - 1).to(tl.int64)
    above, left = i.to(tl.int64), j.to(tl.int64)
    source = logits + image * image_stride + k.to(tl.int64) * class_stride
    corner_a = tl.load(source + above * row_stride + left * column_stride, is_class, 0.0).to(tl.float32)
    corner_b = tl.load(source + above * row_stride + right * column_stride, is_class, 0.0).to(tl.float32)
    corner_c = tl.load(source + below * row_stride + left * column_stride, is_class, 0.0).to(tl.float32)
    corner_d = tl.load(source + below * row_stride + right * column_stride, is_class, 0.0).to(tl.float32)

    sum_a, sum_b = tl.zeros((some,), tl.float32), tl.zeros((some,), tl.float32)
    sum_c, sum_d = tl.zeros((some,), tl.float32), tl.zeros((some,), tl.float32)
    for start in range(0, area, pixels):
        pixel = start + tl.arange(0, pixels)
        inside = pixel < area
        y, x = top + pixel // across, begin + pixel % across
        _, down = place(y, row_scale, h, align)
        _, along = place(x, column_scale, w, align)
        down = tl.where(has_below, down, 0.0)[:, None]
        along = tl.where(has_right, along, 0.0)[:, None]
        places = (image * height + y) * width + x
        index = tl.load(target + places, inside, 0).to(tl.int32)
        share = tl.load(shares + places, inside, 0.0)
        normaliser = tl.load(normalisers + places, inside, float("inf"))
        value = blend(corner_a[None, :], corner_b[None, :], corner_c[None, :], corner_d[None, :], down, along)
        slope = tl.exp(value - normaliser[:, None]) - tl.where(index[:, None] == k[None, :], 1.0, 0.0)
        slope *= share[:, None]  # of what is no class it may be anything, and goes nowhere
        upper, lower = slope * (1.0 - down), slope * down
        sum_a += tl.sum(upper * (1.0 - along), 0)
        sum_b += tl.sum(upper * along, 0)
        sum_c += tl.sum(lower * (1.0 - along), 0)
        sum_d += tl.sum(lower * along, 0)

    scale = tl.load(factor)
    found = gradient + image * h * w * classes + k
    at_a, at_b = found + (above * w + left) * classes, found + (above * w + right) * classes
    at_c, at_d = found + (below * w + left) * classes, found + (below * w + right) * classes
    in_b, in_c = k < tl.where(has_right, classes, 0), k < tl.where(has_below, classes, 0)
    sum_a = tl.load(at_a, is_class, 0.0) + scale * sum_a
    sum_b = tl.load(at_b, in_b, 0.0) + scale * sum_b
    sum_c = tl.load(at_c, in_c, 0.0) + scale * sum_c
    sum_d = tl.load(at_d, in_b & in_c, 0.0) + scale * sum_d
    # Several threads may hold the same number: none may read what another has already stored.
    tl.debug_barrier()
    tl.store(at_a, sum_a, is_class)
    tl.store(at_b, sum_b, in_b)
    tl.store(at_c, sum_c, in_c)
    tl.store(at_d, sum_d, in_b & in_c)
