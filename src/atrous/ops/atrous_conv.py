"""Atrous convolution of the output size "same": products over the valid taps where they are quicker than torch.

The rule was measured with `benchmarks/atrous_conv.py` on Xeons with AVX-512, channels last:

- float32: torch skips the padding itself in the output and in the gradient of the input, but not in the gradient of
  the weight: that is ours, up to six times quicker, once a fifth of the taps falls outside the map;
- bfloat16 on a processor that multiplies float32 sooner (a Xeon without AMX takes 1.7 times as long): all as float32;
- bfloat16 with AMX: all three are ours at the rates of ASPP, where oneDNN does not use AMX.

On a GPU there is a Triton kernel for the output and the gradient of the input, and the weight's gradient is the same
products. They are chosen nowhere yet: `benchmarks/gpu.py` has still to be run on one.
"""

import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from atrous.ops import valid_taps
from atrous.ops.tracing import is_traced
from atrous.ops.triton_here import takes_triton

_LEAST_WORK = 2e8  # multiplications a thread: below that, the calls cost more than they save
_LEAST_WEIGHT = 1e6  # numbers: below that, torch's gradient of a float32 weight is as quick
_MOST_INSIDE = 0.8  # the share of taps inside the map up to which it is slower
_AMX_RATE = 6  # the least rate at which ours was seen to win against AMX


@dataclass(frozen=True)
class Ours:
    """Which of the three computations are products over the valid taps; the others are torch's."""

    forward: bool
    input_gradient: bool
    weight_gradient: bool


_NONE = Ours(False, False, False)
_ALL = Ours(True, True, True)
# What was seen to win on a GPU: of each type the least rate, and which.
_ON_A_GPU: dict[torch.dtype, tuple[int, Ours]] = {}


def atrous_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, rate: int = 1) -> Tensor:
    """Atrous convolution at stride 1: N×C×H×W, O×C×k×l (both odd) and O to N×O×H×W.

    Equal to `torch.nn.functional.conv2d` with padding rate·(k-1)/2, which it calls wherever that is quicker, where
    nothing was measured, and under `torch.compile`, `torch.export` and ONNX. Under autocast the arguments take its
    type.

    Raises:
        ValueError: a side of the kernel is even.
    """
    if not is_traced():
        if any(side % 2 == 0 for side in weight.shape[2:]):
            raise ValueError(f"weight: a {weight.shape[2]}×{weight.shape[3]} kernel has no centre; use odd sides")
        if x.dim() == 4 and (x.device.type == "cpu" or (x.is_cuda and _ON_A_GPU)):
            inputs = _autocast(x), _autocast(weight), None if bias is None else _autocast(bias)
            ours = _quicker(*inputs[:2], rate)
            learns = torch.is_grad_enabled() and any(given is not None and given.requires_grad for given in inputs)
            if ours.forward or (learns and ours.weight_gradient) or _converts(*inputs[:2], rate):
                return _AtrousConv2d.apply(*inputs, rate, ours)  # type: ignore[no-any-return,no-untyped-call]
    return F.conv2d(x, weight, bias, 1, _padding(weight, rate), rate)


def _autocast(tensor: Tensor) -> Tensor:
    kind = tensor.device.type
    if torch.is_autocast_enabled(kind) and tensor.dtype == torch.float32:
        return tensor.to(torch.get_autocast_dtype(kind))
    return tensor


def _padding(weight: Tensor, rate: int) -> tuple[int, int]:
    return rate * (weight.shape[2] // 2), rate * (weight.shape[3] // 2)


def has_amx() -> bool:
    """Whether this processor multiplies tiles of bfloat16."""
    return bool(torch.cpu._is_amx_tile_supported())


@cache
def _float32_is_quicker() -> bool:
    """Whether this processor multiplies matrices sooner in float32 than in bfloat16."""
    least = []
    for dtype in (torch.float32, torch.bfloat16):
        ones, out, times = torch.ones(512, 512, dtype=dtype), torch.empty(512, 512, dtype=dtype), []
        for _ in range(5):
            begun = time.perf_counter()
            torch.mm(ones, ones, out=out)
            times.append(time.perf_counter() - begun)
        least.append(min(times))
    return least[0] < least[1]


def _product_type(x: Tensor) -> torch.dtype:
    slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and not has_amx() and _float32_is_quicker()
    return torch.float32 if slow else x.dtype


def _converts(x: Tensor, weight: Tensor, rate: int) -> bool:
    return rate > 1 and x.dtype == weight.dtype == torch.bfloat16 and _product_type(x) != x.dtype


def _quicker(x: Tensor, weight: Tensor, rate: int) -> Ours:
    if x.is_cuda:
        return _quicker_on_a_gpu(x, weight, rate)
    n, _, *sides = x.shape
    shares = [valid_taps.valid_share(side, taps, rate) for side, taps in zip(sides, weight.shape[2:], strict=True)]
    inside = math.prod(shares)
    work = inside * weight.numel() * n * math.prod(sides)
    if rate == 1 or x.dtype != weight.dtype or work < _LEAST_WORK * torch.get_num_threads():
        return _NONE
    if x.dtype == torch.bfloat16 and has_amx() and rate >= _AMX_RATE:
        return _ALL
    if x.dtype in (torch.float32, torch.bfloat16):
        return Ours(False, False, inside <= _MOST_INSIDE and weight.numel() >= _LEAST_WEIGHT)
    return _NONE


def _quicker_on_a_gpu(x: Tensor, weight: Tensor, rate: int) -> Ours:
    least, ours = _ON_A_GPU.get(x.dtype, (math.inf, _NONE))
    if rate < least or not takes_triton(x):
        return _NONE
    from atrous.ops import atrous_conv_cuda

    return ours if atrous_conv_cuda.fits(x, weight) else _NONE


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, rate: int, dtype: torch.dtype) -> Tensor:
    """`valid_taps.convolve` of N×H×W×C, or the same on a GPU."""
    if x.is_cuda:
        from atrous.ops import atrous_conv_cuda

        return atrous_conv_cuda.convolve(x, weight, bias, rate)
    return valid_taps.convolve(x, weight, bias, rate, dtype)


class _AtrousConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, rate: int, ours: Ours) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.rate, ctx.ours = rate, ours
        dtype = _product_type(x)
        if ours.forward:
            out = _convolve(x.permute(0, 2, 3, 1), weight, bias, rate, dtype)
            return _laid_out(out, x)
        bias = None if bias is None else bias.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.to(dtype), weight.to(dtype), bias, 1, _padding(weight, rate), rate).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rate, ours, dtype = ctx.rate, ctx.ours, _product_type(x)
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        grad_map = grad.permute(0, 2, 3, 1)
        grad_x = grad_weight = None
        if needs_x and ours.input_gradient:
            grad_x = _laid_out(_convolve(grad_map, weight.transpose(0, 1), None, -rate, dtype), x)
        if needs_weight and ours.weight_gradient:
            size = weight.shape[2], weight.shape[3]
            grad_weight = valid_taps.weight_gradient(grad_map, x.permute(0, 2, 3, 1), size, rate, dtype)
            grad_weight = grad_weight.to(weight.dtype)
        theirs = [needs_x and not ours.input_gradient, needs_weight and not ours.weight_gradient, False]
        if any(theirs):
            sides = [1, 1], list(_padding(weight, rate)), [rate, rate]
            tensors = grad.to(dtype), x.to(dtype), weight.to(dtype)
            found = torch.ops.aten.convolution_backward(*tensors, None, *sides, False, [0, 0], 1, theirs)
            grad_x = found[0].to(x.dtype) if theirs[0] else grad_x
            grad_weight = found[1].to(weight.dtype) if theirs[1] else grad_weight
        grad_bias = grad.sum((0, 2, 3)) if needs_bias else None
        return grad_x, grad_weight, grad_bias, None, None


def _laid_out(out: Tensor, x: Tensor) -> Tensor:
    """N×H×W×O as N×O×H×W, in channels-last memory if x is."""
    out = out.permute(0, 3, 1, 2)
    return out if x.is_contiguous(memory_format=torch.channels_last) else out.contiguous()
