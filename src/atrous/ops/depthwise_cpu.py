"""A depthwise convolution and its gradients on the CPU, over channels-last memory, in float32 or bfloat16.

The weight gradient is one pass; the input gradient is a gather, and so is the convolution itself at stride 1, with the
kernel flipped. Sums are taken in float32.
"""

import numpy as np
import torch
from torch import Tensor

from atrous.ops.bfloat16 import as_numpy, load, store
from atrous.ops.compiled import njit
from atrous.ops.threads import split


def convolve(x: Tensor, weight: Tensor, padding: int, rate: int) -> Tensor:
    """At stride 1; `padding` is at most what the kernel spans. The output lies in memory as x does."""
    reach = rate * (weight.shape[-1] - 1)
    n, channels, height, width = x.shape
    size = n, channels, height + 2 * padding - reach, width + 2 * padding - reach
    rows = x.contiguous(memory_format=torch.channels_last)
    out = _gather(rows, weight.flip(2, 3), size, 1, reach - padding, rate)
    return out if x.is_contiguous(memory_format=torch.channels_last) else out.contiguous()


def input_gradient(grad: Tensor, weight: Tensor, x: Tensor, stride: int, padding: int, rate: int) -> Tensor:
    return _gather(grad, weight, x.shape, stride, padding, rate)


def _gather(grad: Tensor, weight: Tensor, size: tuple[int, ...], stride: int, padding: int, rate: int) -> Tensor:
    n, channels, height, width = size
    out = torch.empty((n, height, width, channels), dtype=grad.dtype, device="cpu")
    kernel = as_numpy(weight.float()[:, 0].permute(1, 2, 0).contiguous())
    grad_array, out_array = as_numpy(grad.permute(0, 2, 3, 1)), as_numpy(out)
    split(
        n * height,
        lambda start, stop: _gather_rows(grad_array, kernel, out_array, stride, padding, rate, start, stop),
    )
    return out.permute(0, 3, 1, 2)


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, rate: int) -> Tensor:
    x_array = as_numpy(x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1))
    grad_array = as_numpy(grad.permute(0, 2, 3, 1))
    size = weight.shape[-1]

    def part(start: int, stop: int) -> Tensor:
        total = torch.zeros((size, size, weight.shape[0]), dtype=torch.float32, device="cpu")
        _correlate_rows(x_array, grad_array, total.numpy(), stride, padding, rate, start, stop)
        return total

    parts = split(grad_array.shape[0] * grad_array.shape[1], part)
    return torch.stack(parts).sum(0).permute(2, 0, 1)[:, None].to(weight.dtype)


@njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
def _correlate_rows(x, grad, total, stride, padding, rate, start, stop):  # type: ignore[no-untyped-def]
    """Adds to total[ky, kx, c] what the output rows start..stop (counted through the batch) give."""
    _, height, width, channels = x.shape
    _, out_height, out_width, _ = grad.shape
    size = total.shape[0]
    for flat in range(start, stop):
        image, row = flat // out_height, flat % out_height
        for ky in range(size):
            y = row * stride + ky * rate - padding
            if y < 0 or y >= height:
                continue
            for kx in range(size):
                offset = kx * rate - padding
                # The output columns whose tap falls inside the row.
                first = max(0, -(offset // stride))
                last = min(out_width, (width - 1 - offset) // stride + 1)
                sums = total[ky, kx]
                column = first
                while column + 4 <= last:
                    i = column * stride + offset
                    for c in range(channels):
                        sums[c] += (
                            load(grad[image, row, column, c]) * load(x[image, y, i, c])
                            + load(grad[image, row, column + 1, c]) * load(x[image, y, i + stride, c])
                            + load(grad[image, row, column + 2, c]) * load(x[image, y, i + 2 * stride, c])
                            + load(grad[image, row, column + 3, c]) * load(x[image, y, i + 3 * stride, c])
                        )
                    column += 4
                while column < last:
                    i = column * stride + offset
                    for c in range(channels):
                        sums[c] += load(grad[image, row, column, c]) * load(x[image, y, i, c])
                    column += 1


@njit(nogil=True, fastmath=True, cache=True, error_model="numpy")
def _gather_rows(grad, kernel, out, stride, padding, rate, start, stop):  # type: ignore[no-untyped-def]
    """Writes the input gradient's rows start..stop (counted through the batch)."""
    _, height, width, channels = out.shape
    _, out_height, out_width, _ = grad.shape
    size = kernel.shape[0]
    sums = np.zeros((width, channels), np.float32)
    for flat in range(start, stop):
        image, y = flat // height, flat % height
        sums[:] = 0
        for ky in range(size):
            reach = y + padding - ky * rate
            if reach < 0 or reach % stride != 0 or reach // stride >= out_height:
                continue
            row = reach // stride
            for kx in range(size):
                offset = kx * rate - padding
                first = max(0, -(offset // stride))
                last = min(out_width, (width - 1 - offset) // stride + 1)
                for column in range(first, last):
                    i = column * stride + offset
                    for c in range(channels):
                        sums[i, c] += load(grad[image, row, column, c]) * kernel[ky, kx, c]
        for i in range(width):
            for c in range(channels):
                out[image, y, i, c] = store(sums[i, c], out[image, y, i, c])
