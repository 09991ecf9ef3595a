"""Atrous convolution as matrix products over the taps that fall inside the map, and over nothing else.

At rate r a tap of a 3×3 kernel lies inside a side of n positions for n - r of them, so at large rates most taps only
ever meet the padding (v3, figure 4). Which ones do not is the same all over a rectangle; there are at most nine of
those for 3×3. In each, a product per kernel row joins the positions of the map with more channels (`wide`) to the
taps of the map with fewer (`narrow`), which is therefore the only one that is copied more than once.

Maps are N×H×W×C views here, in any memory layout; results lie channels last. A negative rate mirrors the kernel, so
that the gradient of the input is the convolution at -rate with the weight's channels exchanged. Products are taken
in a type of their own, and sums of half-precision products in float32. No result depends on timing.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# In a product: on the CPU enough for full speed, and few enough for buffers of some 20 MB; a GPU needs more at once.
_POSITIONS = 2048
_POSITIONS_ON_A_GPU = 1 << 16


@dataclass(frozen=True)
class Span:
    """Positions start..stop of a side, all of whose valid taps are first..last."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class _Block:
    """A rectangle of some images of the wide map, in which the same taps are valid."""

    images: slice
    rows: Span
    columns: Span

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = self.rows, self.columns
        return self.images.stop - self.images.start, rows.stop - rows.start, columns.stop - columns.start

    @property
    def positions(self) -> int:
        images, height, width = self.shape
        return images * height * width

    def of(self, feature_map: Tensor, down: int = 0, right: int = 0) -> Tensor:
        """This rectangle of a map, moved."""
        rows, columns = self.rows, self.columns
        return feature_map[
            self.images, rows.start + down : rows.stop + down, columns.start + right : columns.stop + right
        ]


def spans(size: int, taps: int, rate: int) -> list[Span]:
    """The parts of a side in which the same taps are valid."""
    offsets = [(tap - taps // 2) * rate for tap in range(taps)]
    edges = {edge for offset in offsets for edge in (-offset, size - offset) if 0 < edge < size}
    cuts = [0, *sorted(edges), size]
    found = []
    for start, stop in pairwise(cuts):
        valid = [tap for tap, offset in enumerate(offsets) if 0 <= start + offset < size]
        found.append(Span(start, stop, valid[0], valid[-1] + 1))
    return found


def _blocks(wide: Tensor, kernel: tuple[int, int], rate: int) -> list[_Block]:
    images, height, width, _ = wide.shape
    most = _POSITIONS if wide.device.type == "cpu" else _POSITIONS_ON_A_GPU
    blocks = []
    for rows in spans(height, kernel[0], rate):
        for columns in spans(width, kernel[1], rate):
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            together = max(1, most // area)
            band = -(-(rows.stop - rows.start) // -(-area // most))
            for image in range(0, images, together):
                for top in range(rows.start, rows.stop, band):
                    part = Span(top, min(top + band, rows.stop), rows.first, rows.last)
                    blocks.append(_Block(slice(image, min(image + together, images)), part, columns))
    return blocks


def valid_share(size: int, taps: int, rate: int) -> float:
    """Of all the taps that a side of `size` positions meets, the share that lies inside."""
    return sum((span.stop - span.start) * (span.last - span.first) for span in spans(size, taps, rate)) / (size * taps)


class _Buffers:
    """Memory for the largest block's positions and one kernel row of taps, used again by every block."""

    def __init__(self, blocks: list[_Block], wide: int, row: int, dtype: torch.dtype, device: torch.device) -> None:
        most = max((block.positions for block in blocks), default=0)
        self._wide = torch.empty(most, wide, dtype=dtype, device=device)
        self._row = torch.empty(most * row, dtype=dtype, device=device)

    def wide(self, block: _Block) -> Tensor:
        return self._wide[: block.positions]

    def copied(self, block: _Block, wide: Tensor) -> Tensor:
        """The block's positions of the map, positions × channels."""
        region = block.of(wide)
        if region.is_contiguous() and region.dtype == self._wide.dtype:
            return region.view(-1, region.shape[-1])
        rectangle = self.wide(block)
        rectangle.view(region.shape).copy_(region)
        return rectangle

    def row(self, block: _Block, channels: int) -> Tensor:
        """Room for the narrow map's channels at each valid tap of a kernel row: N×h×w×taps×channels."""
        taps = block.columns.last - block.columns.first
        return self._row[: block.positions * taps * channels].view(*block.shape, taps, channels)

    def gathered(self, block: _Block, narrow: Tensor, down: int, columns: list[int]) -> Tensor:
        """What the taps of a kernel row see, positions × (taps·channels)."""
        row = self.row(block, narrow.shape[-1])
        for tap, right in enumerate(columns):
            row[..., tap, :] = block.of(narrow, down, right)
        return row.view(block.positions, -1)


def _moves(span: Span, taps: int, rate: int) -> list[int]:
    return [(tap - taps // 2) * rate for tap in range(span.first, span.last)]


def _sum_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, rate: int, dtype: torch.dtype) -> Tensor:
    """The "same"-size convolution of N×H×W×C with O×C×k×l at stride 1, as N×H×W×O in x's type.

    Args:
        bias: O numbers.
        dtype: what the products are taken in.
    """
    if x.shape[-1] > weight.shape[0]:
        return _scattered(x, weight.permute(2, 3, 0, 1).to(dtype).contiguous(), bias, -rate)
    return _gathered(x, weight.permute(2, 3, 1, 0).to(dtype).contiguous(), bias, rate)


def _scattered(wide: Tensor, kernel: Tensor, bias: Tensor | None, rate: int) -> Tensor:
    """Adds to each narrow position what the wide map gives at its taps; `kernel` is k×l×narrow×wide."""
    size, channels = (kernel.shape[0], kernel.shape[1]), kernel.shape[2]
    total = torch.zeros((*wide.shape[:3], channels), dtype=_sum_type(kernel.dtype), device=wide.device)
    if bias is not None:
        total += bias
    blocks = _blocks(wide, size, rate)
    buffers = _Buffers(blocks, wide.shape[3], size[1] * channels, kernel.dtype, wide.device)
    for block in blocks:
        rectangle = buffers.copied(block, wide)
        rows, columns = block.rows, block.columns
        for row, down in enumerate(_moves(rows, size[0], rate), rows.first):
            taps = kernel[row, columns.first : columns.last].flatten(0, 1)
            parts = buffers.row(block, channels)
            torch.mm(rectangle, taps.t(), out=parts.view(block.positions, -1))
            for tap, right in enumerate(_moves(columns, size[1], rate)):
                block.of(total, down, right).add_(parts[..., tap, :])
    return total.to(wide.dtype)


def _gathered(narrow: Tensor, kernel: Tensor, bias: Tensor | None, rate: int) -> Tensor:
    """Each wide position from what the narrow map holds at its taps; `kernel` is k×l×narrow×wide."""
    size, channels = (kernel.shape[0], kernel.shape[1]), kernel.shape[3]
    out = torch.empty((*narrow.shape[:3], channels), dtype=narrow.dtype, device=narrow.device)
    blocks = _blocks(out, size, rate)
    buffers = _Buffers(blocks, channels, size[1] * narrow.shape[3], kernel.dtype, narrow.device)
    for block in blocks:
        rectangle = buffers.wide(block)
        rows, columns = block.rows, block.columns
        for row, down in enumerate(_moves(rows, size[0], rate), rows.first):
            taps = kernel[row, columns.first : columns.last].flatten(0, 1)
            seen = buffers.gathered(block, narrow, down, _moves(columns, size[1], rate))
            rectangle.addmm_(seen, taps, beta=0 if row == rows.first else 1)
        if bias is not None:
            rectangle += bias
        block.of(out).copy_(rectangle.view(*block.shape, channels))
    return out


def weight_gradient(grad: Tensor, x: Tensor, size: tuple[int, int], rate: int, dtype: torch.dtype) -> Tensor:
    """The gradient O×C×k×l of `convolve`'s weight from those of its output, N×H×W×O, and its input, N×H×W×C.

    Args:
        size: k and l.
        dtype: what the products are taken in; the result's type is that or, for bfloat16, float32.
    """
    if size == (1, 1):
        product = grad.reshape(-1, grad.shape[3]).to(dtype).t() @ x.reshape(-1, x.shape[3]).to(dtype)
        return product.to(_sum_type(dtype))[:, :, None, None]
    reduces = x.shape[3] > grad.shape[3]
    wide, narrow, rate = (x, grad, -rate) if reduces else (grad, x, rate)
    total = torch.zeros((*size, narrow.shape[3], wide.shape[3]), dtype=_sum_type(dtype), device=x.device)
    blocks = _blocks(wide, size, rate)
    buffers = _Buffers(blocks, wide.shape[3], size[1] * narrow.shape[3], dtype, x.device)
    for block in blocks:
        rectangle = buffers.copied(block, wide)
        rows, columns = block.rows, block.columns
        for row, down in enumerate(_moves(rows, size[0], rate), rows.first):
            seen = buffers.gathered(block, narrow, down, _moves(columns, size[1], rate))
            sums = total[row, columns.first : columns.last].flatten(0, 1)
            if sums.dtype == dtype:
                sums.addmm_(seen.t(), rectangle)
            else:
                sums.add_(torch.mm(seen.t(), rectangle))
    return total.permute(2, 3, 0, 1) if reduces else total.permute(3, 2, 0, 1)
