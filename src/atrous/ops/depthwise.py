"""Depthwise convolution that is quick on the CPU at large rates, and in its gradients.

Torch's weight gradient of a depthwise convolution is the bottleneck of training mobile backbones on a CPU, worst in
bfloat16; and its convolution itself leaves its quick path where the padding is wide, as at the rates of a separable
ASPP. `depthwise_cpu` has our own.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.ops.gradients import gradients_again
from atrous.ops.tracing import is_traced

_MIN_CHANNELS = 64  # below that the inner loop is too short to beat torch (measured at 32: half as fast)
_FEW = 600_000  # float32 numbers, at which torch takes 0.5 ms longer: in 400 photos less than numba takes to import
_WIDEST_PADDING = 6  # on which oneDNN's depthwise kernel is used: beyond, torch takes 3 to 30 times as long as we do


def depthwise_conv2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, rate: int = 1) -> Tensor:
    """Depthwise convolution without a bias: N×C×H×W and C×1×k×k to N×C×H'×W'.

    Equal to `torch.nn.functional.conv2d` with groups = C. Ours are the gradients, and the output at stride 1 with more
    than 6 of padding, unless it is a small one in float32 and nobody asks for gradients; only on the CPU in float32 or
    bfloat16 from 64 channels up, and not under `torch.compile`, `torch.export` or ONNX. Anything else is that function.
    Under autocast both arguments take its type.
    """
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
        x, weight = x.to(dtype), weight.to(dtype)
    ours = (
        kind == "cpu" and x.shape[1] >= _MIN_CHANNELS and x.dtype in (torch.float32, torch.bfloat16) and not is_traced()
    )
    if ours and torch.is_grad_enabled():
        return _DepthwiseConv2d.apply(x, weight, stride, padding, rate)  # type: ignore[no-any-return,no-untyped-call]
    if ours and (x.dtype != torch.float32 or x.numel() > _FEW):
        return _convolve(x, weight, stride, padding, rate)
    return F.conv2d(x, weight, None, stride, padding, rate, groups=weight.shape[0])


def _convolve(x: Tensor, weight: Tensor, stride: int, padding: int, rate: int) -> Tensor:
    if stride == 1 and _WIDEST_PADDING < padding <= rate * (weight.shape[-1] - 1):
        from atrous.ops.depthwise_cpu import convolve

        return convolve(x, weight, padding, rate)
    return F.conv2d(x, weight, None, stride, padding, rate, groups=weight.shape[0])


def _plain(x: Tensor, weight: Tensor, options: tuple[Any, ...]) -> Tensor:
    return F.conv2d(x, weight, *options)


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, rate: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding, ctx.rate = stride, padding, rate
        return _convolve(x, weight, stride, padding, rate)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            options = None, ctx.stride, ctx.padding, ctx.rate, len(ctx.saved_tensors[1])
            again = partial(_plain, options=options)
            return *gradients_again(again, ctx.saved_tensors, ctx.needs_input_grad[:2], grad), None, None, None
        # numba takes half a second to import, which only training needs to wait for.
        from atrous.ops.depthwise_cpu import input_gradient, weight_gradient

        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = None
        if ctx.needs_input_grad[0]:
            reach = ctx.rate * (weight.shape[-1] - 1)
            if ctx.stride == 1 and ctx.padding <= reach:
                grad_x = _convolve(grad, weight.flip(2, 3), 1, reach - ctx.padding, ctx.rate)
            else:
                grad_x = input_gradient(grad, weight, x, ctx.stride, ctx.padding, ctx.rate)
        grad_w = (
            weight_gradient(grad, x, weight, ctx.stride, ctx.padding, ctx.rate) if ctx.needs_input_grad[1] else None
        )
        return grad_x, grad_w, None, None, None
