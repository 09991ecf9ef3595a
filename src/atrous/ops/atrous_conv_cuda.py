"""Atrous convolution with 3×3 kernels on the GPU, over the taps that fall inside the map (`valid_taps`).

One matrix product a tile: positions of one rectangle in which the same taps are valid, by output channels. The sums
are taken in float32 over all valid taps at once, so that nothing is copied or added up in memory.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from atrous.ops.valid_taps import spans

_POSITIONS = 128  # to a tile
_OUT_CHANNELS = 128
_CHANNELS = 64  # to a step of the sum


def fits(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether the kernel takes O×C×k×l in a type: 3×3, in half precision, channels in multiples of 64."""
    of_64 = all(channels % _CHANNELS == 0 for channels in weight.shape[:2])
    return dtype in (torch.bfloat16, torch.float16) and of_64 and weight.shape[2:] == (3, 3)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, rate: int) -> Tensor:
    """The "same"-size convolution of N×H×W×C with O×C×3×3 at stride 1, as N×H×W×O. A negative rate mirrors it."""
    n, height, width, channels = x.shape
    out_channels = weight.shape[0]
    x = x.contiguous()
    taps = weight.permute(2, 3, 1, 0).contiguous()
    out = torch.empty((n, height, width, out_channels), dtype=x.dtype, device=x.device)
    tiles = _tiles(n, height, width, rate, x.device)
    across = min(_OUT_CHANNELS, triton.next_power_of_2(out_channels))
    blocks = triton.cdiv(out_channels, across)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        _convolve[(len(tiles) * blocks,)](
            x, taps, out if bias is None else bias, out, tiles, n, height, width, channels, out_channels, rate, blocks,
            bias is not None, _POSITIONS, across, _CHANNELS, num_warps=8, num_stages=3, enable_fp_fusion=True,
        )  # fmt: skip
    return out


@lru_cache(maxsize=256)
def _tiles(n: int, height: int, width: int, rate: int, device: torch.device) -> Tensor:
    """Of each tile: its rectangle's rows and columns, its first position there, and the taps. The longest first."""
    found = []
    for rows in spans(height, 3, rate):
        for columns in spans(width, 3, rate):
            down, right = rows.stop - rows.start, columns.stop - columns.start
            shared = (rows.start, down, columns.start, right)
            taps = (rows.first, rows.last, columns.first, columns.last)
            found += [(*shared, first, *taps) for first in range(0, n * down * right, _POSITIONS)]
    found.sort(key=lambda tile: (tile[5] - tile[6]) * (tile[8] - tile[7]))
    return torch.tensor(found, dtype=torch.int32, device=device)


@triton.jit  # type: ignore[untyped-decorator]
def _convolve(  # type: ignore[no-untyped-def]
    x, taps, bias, out, tiles, images, height, width, channels, out_channels, rate, blocks,
    with_bias: tl.constexpr, positions: tl.constexpr, across: tl.constexpr, step: tl.constexpr,
):  # fmt: skip
    tile = tiles + tl.program_id(0) // blocks * 9
    down, right = tl.load(tile + 1), tl.load(tile + 3)
    position = tl.load(tile + 4) + tl.arange(0, positions)
    inside = position < images * down * right
    image = position // (down * right)
    row = tl.load(tile) + position // right % down
    column = tl.load(tile + 2) + position % right
    place = (image.to(tl.int64) * height + row) * width + column

    o = tl.program_id(0) % blocks * across + tl.arange(0, across)
    is_out = o < out_channels
    c = tl.arange(0, step)
    total = tl.zeros((positions, across), tl.float32)
    for tap_row in range(tl.load(tile + 5), tl.load(tile + 6)):
        for tap_column in range(tl.load(tile + 7), tl.load(tile + 8)):
            seen = place + ((tap_row - 1) * width + tap_column - 1) * rate
            source = x + seen[:, None] * channels + c[None, :]
            kernel = taps + ((tap_row * 3 + tap_column) * channels + c[:, None]) * out_channels + o[None, :]
            for _ in range(0, channels, step):
                values = tl.load(source, inside[:, None], 0.0)
                weights = tl.load(kernel, is_out[None, :], 0.0)
                total = tl.dot(values, weights, total)
                source += step
                kernel += step * out_channels
    if with_bias:
        total += tl.load(bias + o, is_out, 0.0).to(tl.float32)[None, :]
    tl.store(
        out + place[:, None] * out_channels + o[None, :],
        total.to(out.dtype.element_ty),
        inside[:, None] & is_out[None, :],
    )
