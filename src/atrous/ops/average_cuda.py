"""The mean softmax over views on the GPU: one kernel goes through all views of a pixel and keeps the sum meanwhile."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from atrous.ops.bilinear_cuda import blend

if TYPE_CHECKING:
    from atrous.ops.average import View

_TILE = 2048  # pixels × classes to a program
_WARPS = 4


def average(groups: Sequence[Sequence["View"]], labels: Tensor, probabilities: Tensor | None) -> None:
    """Fills `labels` N×H×W and, if they are asked for, `probabilities` N×K×H×W."""
    n, height, width = labels.shape
    views = [view for group in groups for view in group]
    classes = views[0].logits.shape[1]
    device = labels.device
    flat = [view.logits.float().permute(0, 2, 3, 1).reshape(-1) for view in views]
    # Where each view's logits begin, and its photos' sizes.
    begins = accumulate([len(each) for each in flat[:-1]], initial=0)
    sizes = [(begin, *view.logits.shape[2:]) for begin, view in zip(begins, views, strict=True)]
    tables = [
        torch.stack([getattr(getattr(view, side), name) for view in views])
        for side in ("rows", "columns")
        for name in ("lower", "upper", "weight")
    ]
    firsts = list(accumulate((len(group) for group in groups), initial=0))
    some = triton.next_power_of_2(classes)
    pixels = max(1, _TILE // some)
    strips = triton.cdiv(width, pixels)
    with torch.cuda.device_of(labels):  # type: ignore[no-untyped-call]
        _average[(n * height * strips,)](
            torch.cat(flat), torch.tensor(sizes, device=device), torch.tensor(firsts, device=device), *tables,
            labels, labels if probabilities is None else probabilities, 1 / len(views),
            len(groups), height, width, strips, classes, probabilities is not None, pixels, some,
            num_warps=_WARPS, enable_fp_fusion=False,
        )  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _average(  # type: ignore[no-untyped-def]
    logits, sizes, firsts, row_lower, row_upper, row_weight, column_lower, column_upper, column_weight,
    labels, probabilities, share, groups, height, width, strips, classes,
    with_probabilities: tl.constexpr, pixels: tl.constexpr, some: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0) // strips
    image, y = (line // height).to(tl.int64), line % height
    x = tl.program_id(0) % strips * pixels + tl.arange(0, pixels)
    k = tl.arange(0, some)
    inside = (x < width)[:, None] & (k < classes)[None, :]
    sums = tl.zeros((pixels, some), tl.float32)
    for group in range(groups):
        together = tl.zeros((pixels, some), tl.float32)
        # The views of a group are added first: two can be exchanged and give the same sum to the last bit.
        for view in range(tl.load(firsts + group), tl.load(firsts + group + 1)):
            h, w = tl.load(sizes + 3 * view + 1), tl.load(sizes + 3 * view + 2)
            source = logits + tl.load(sizes + 3 * view) + image * h * w * classes + k[None, :]
            row, column = view * height + y, view * width + x
            above = source + tl.load(row_lower + row) * w * classes
            below = source + tl.load(row_upper + row) * w * classes
            left = (tl.load(column_lower + column, x < width, 0) * classes)[:, None]
            right = (tl.load(column_upper + column, x < width, 0) * classes)[:, None]
            value = blend(
                tl.load(above + left, inside, 0.0), tl.load(above + right, inside, 0.0),
                tl.load(below + left, inside, 0.0), tl.load(below + right, inside, 0.0),
                tl.load(row_weight + row), tl.load(column_weight + column, x < width, 0.0)[:, None],
            )  # fmt: skip
            value = tl.where(k[None, :] < classes, value, float("-inf"))
            e = tl.exp(value - tl.max(value, 1)[:, None])
            together += e / tl.sum(e, 1)[:, None]
        sums += together
    means = sums * share
    place = line.to(tl.int64) * width + x
    best = tl.argmax(tl.where(inside, means, -1.0), 1, tie_break_left=True)
    tl.store(labels + place, best.to(tl.uint8), x < width)
    if with_probabilities:
        found = probabilities + (image * classes + k[None, :]) * height * width + (y * width + x)[:, None]
        tl.store(found, means, inside)
