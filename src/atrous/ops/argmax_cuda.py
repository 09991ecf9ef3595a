"""Labels from coarse logits on the GPU: each class's upsampled logit lives as long as its comparison."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from atrous.ops.bilinear_cuda import PIXELS, WARPS, row_of, scale_of, value_of


def label(logits: Tensor, size: Sequence[int], align_corners: bool, kept: Sequence[int]) -> Tensor:
    """The class of the largest upsampled logit at each pixel, the lowest where several are equal.

    Args:
        logits: N×K×h×w in float32, float16 or bfloat16 and any memory layout.
        size: (H, W) that the logits stand for.
        kept: (H', W'), the top left part that is asked for.

    Returns:
        uint8 N×H'×W'.
    """
    n, classes, h, w = logits.shape
    (height, width), strips = kept, triton.cdiv(kept[1], PIXELS)
    scales = (scale_of(full, coarse, align_corners) for full, coarse in zip(size, (h, w), strict=True))
    labels = torch.empty((n, height, width), dtype=torch.uint8, device=logits.device)
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        _label[(n * height * strips,)](
            logits, *logits.stride(), labels, height, width, strips, classes, h, w, *scales, align_corners, PIXELS,
            num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return labels


# The same for `torch.compile`. Elsewhere it is not used: its first call imports the compiler, for a second or two.
compiled_label = torch.library.custom_op(
    "atrous::upsample_argmax",
    label,
    mutates_args=(),
    schema="(Tensor logits, SymInt[] size, bool align_corners, SymInt[] kept) -> Tensor",
)


@compiled_label.register_fake
def _(logits: Tensor, _size: Sequence[int], _align_corners: bool, kept: Sequence[int]) -> Tensor:
    return logits.new_empty((len(logits), *kept), dtype=torch.uint8)


@triton.jit  # type: ignore[untyped-decorator]
def _label(  # type: ignore[no-untyped-def]
    logits, image_stride, class_stride, row_stride, column_stride, labels, height, width, strips,
    classes: tl.constexpr, h, w, row_scale, column_scale, align: tl.constexpr, pixels: tl.constexpr,
):  # fmt: skip
    places, inside, above, below, left, right, down, along = row_of(
        logits, image_stride, row_stride, column_stride, height, width, strips, h, w, row_scale, column_scale, align,
        pixels,
    )  # fmt: skip
    best = value_of(above, below, left, right, inside, down, along)
    found = tl.zeros((pixels,), tl.int32)
    for k in range(1, classes):
        above += class_stride
        below += class_stride
        value = value_of(above, below, left, right, inside, down, along)
        found = tl.where(value > best, k, found)
        best = tl.maximum(value, best)
    tl.store(labels + places, found.to(tl.uint8), inside)
