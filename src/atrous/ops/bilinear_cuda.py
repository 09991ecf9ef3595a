"""What the Triton kernels share: where a pixel lies among the coarse logits, and its logit of a class.

The arithmetic is the reference's (`upsample.reference_argmax`): rows first, then columns, each step rounded. Every
launch therefore says `enable_fp_fusion=False`: a multiplication and an addition in one would round once.

With TRITON_INTERPRET=1 in the environment before triton is imported, the kernels run on the CPU, slowly, for tests.
"""

import triton
import triton.language as tl

PIXELS = 128  # of a row, to a program
WARPS = 4


def scale_of(full: int, coarse: int, align_corners: bool) -> float:
    """Coarse positions to a pixel, as in `torch.nn.functional.interpolate`."""
    if align_corners:
        return (coarse - 1) / (full - 1) if full > 1 else 0.0
    return coarse / full


@triton.jit  # type: ignore[untyped-decorator]
def place(index, scale, coarse, align: tl.constexpr):  # type: ignore[no-untyped-def]
    """The coarse position below that of each pixel, and the weight of the one above."""
    position = index.to(tl.float32)
    position = position * scale if align else tl.maximum((position + 0.5) * scale - 0.5, 0.0)
    lower = tl.minimum(tl.floor(position).to(tl.int32), coarse - 1)
    return lower, position - lower.to(tl.float32)


@triton.jit
def blend(above_left, above_right, below_left, below_right, down, along):  # type: ignore[no-untyped-def]
    """Between the four corners of a cell, `down` and `along` of the way."""
    left = above_left + down * (below_left - above_left)
    right = above_right + down * (below_right - above_right)
    return left + along * (right - left)


@triton.jit  # type: ignore[untyped-decorator]
def row_of(  # type: ignore[no-untyped-def]
    logits, image_stride, row_stride, column_stride, height, width, strips, h, w, row_scale, column_scale,
    align: tl.constexpr, pixels: tl.constexpr,
):  # fmt: skip
    """This program's pixels: their places in the N×H×W map, which ones exist, and what `value_of` asks for.

    Offsets are 64 bits wide wherever a batch of large maps would pass 2³¹.
    """
    line = tl.program_id(0) // strips
    x = tl.program_id(0) % strips * pixels + tl.arange(0, pixels)
    inside = x < width
    y0, down = place(line % height, row_scale, h, align)
    x0, along = place(x, column_scale, w, align)
    image = logits + (line // height).to(tl.int64) * image_stride
    above = image + y0.to(tl.int64) * row_stride
    below = image + tl.minimum(y0 + 1, h - 1).to(tl.int64) * row_stride
    left = x0.to(tl.int64) * column_stride
    right = tl.minimum(x0 + 1, w - 1).to(tl.int64) * column_stride
    return line.to(tl.int64) * width + x, inside, above, below, left, right, down, along


@triton.jit
def value_of(above, below, left, right, inside, down, along):  # type: ignore[no-untyped-def]
    """The logit of one class at some pixels of a row."""
    return blend(
        tl.load(above + left, inside, 0.0).to(tl.float32),
        tl.load(above + right, inside, 0.0).to(tl.float32),
        tl.load(below + left, inside, 0.0).to(tl.float32),
        tl.load(below + right, inside, 0.0).to(tl.float32),
        down,
        along,
    )
