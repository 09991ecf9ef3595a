"""Operators of torch whose gradient lies channels first whatever the map's layout, with one that follows the map.

A map's gradients are added up in the layout of the first that comes, and the operators before it inherit that: one such
gradient at the end of a backbone makes the ReLU there thirty times slower, and the batch norms and convolutions wait
for copies.
"""

from typing import Any

import torch
from torch import Tensor

from atrous.ops.tracing import is_traced


def spatial_mean(x: Tensor) -> Tensor:
    """N×C×H×W to N×C×1×1, each channel's mean: `x.mean((2, 3), keepdim=True)`."""
    if is_traced() or not x.requires_grad:
        return x.mean((2, 3), keepdim=True)
    return _SpatialMean.apply(x)  # type: ignore[no-any-return,no-untyped-call]


def subsample(x: Tensor, stride: int) -> Tensor:
    """Every `stride`-th row and column, from the first on: `x[..., ::stride, ::stride]`."""
    if is_traced() or not x.requires_grad:
        return x[..., ::stride, ::stride]
    return _Subsample.apply(x, stride)  # type: ignore[no-any-return,no-untyped-call]


class _SpatialMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # One number stands for a channel of the map: whatever it is added to gives the sum its layout.
        shared: Tensor = grad / (ctx.shape[2] * ctx.shape[3])
        return shared.expand(ctx.shape)


class _Subsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        ctx.shape, ctx.stride = x.shape, stride
        last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        return x[..., ::stride, ::stride]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        whole = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=ctx.layout).zero_()
        whole[..., :: ctx.stride, :: ctx.stride] = grad
        return whole, None
