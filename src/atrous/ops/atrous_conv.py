"""Atrous convolution of the output size "same": products over the valid taps where they are quicker than torch.

The rule was measured with `benchmarks/atrous_conv.py`, channels last, on Xeons with AVX-512 and on a Zen 5:

- torch skips the padding itself in the output and in the gradient of the input, but not in the gradient of the weight:
  that is ours, up to six times quicker, once a fifth of the taps falls outside the map;
- float32 on an AMD processor, where torch's matrix products have half the speed of its convolutions: once half do;
- bfloat16 on a processor that convolves sooner in float32 (a Xeon without AMX takes 1.7 times as long): all as float32;
- bfloat16 on a Zen 5: the gradient of a 1×1 kernel's weight is one product, 1.7 times as quick on large maps;
- bfloat16 with AMX: all three are ours at the rates of ASPP, where oneDNN does not use AMX.

On a GPU there is a Triton kernel for the output and the gradient of the input, and the weight's gradient is the same
products. They are chosen nowhere yet: `benchmarks/gpu.py` has still to be run on one.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.ops import valid_taps
from atrous.ops.gradients import gradients_again
from atrous.ops.tracing import is_traced
from atrous.ops.triton_here import takes_triton

_LEAST_WORK = 2e8  # multiplications a thread: below that, the calls cost more than they save
_LEAST_WEIGHT = 1e6  # numbers: below that, torch's gradient of a float32 weight is as quick
_MOST_INSIDE = 0.8  # the share of taps inside the map up to which it is slower,
_MOST_INSIDE_IF_SLOW = 0.45  # and where float32 matrices are multiplied slowly
_LEAST_CHANNELS, _LEAST_1X1_WORK = 256, 8e8  # from which a 1×1 kernel's bfloat16 gradient is slower in torch
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
            dtype = _type_under_autocast(x)
            ours = _quicker(x, weight, rate, dtype) if dtype == _type_under_autocast(weight) else _NONE
            given = [tensor for tensor in (x, weight, bias) if tensor is not None]
            learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
            converts = rate > 1 and _product_type(dtype, x.device) != dtype == _type_under_autocast(weight)
            if ours.forward or (learns and ours.weight_gradient) or converts:
                cast = [
                    None if tensor is None else tensor.to(_type_under_autocast(tensor)) for tensor in (x, weight, bias)
                ]
                return _AtrousConv2d.apply(*cast, rate, ours)  # type: ignore[no-any-return,no-untyped-call]
    return _plain(x, weight, bias, rate)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, rate: int) -> Tensor:
    return F.conv2d(x, weight, bias, 1, _padding(weight, rate), rate)


def _type_under_autocast(tensor: Tensor) -> torch.dtype:
    kind = tensor.device.type
    if torch.is_autocast_enabled(kind) and tensor.dtype == torch.float32:
        return torch.get_autocast_dtype(kind)
    return tensor.dtype


def _padding(weight: Tensor, rate: int) -> tuple[int, int]:
    return rate * (weight.shape[2] // 2), rate * (weight.shape[3] // 2)


def _has_amx() -> bool:
    """Whether this processor multiplies tiles of bfloat16."""
    return bool(torch.cpu._is_amx_tile_supported())


@cache
def convolves_sooner_in_bfloat16() -> bool:
    """Whether this processor is quicker in bfloat16 than in float32: with AMX, and on a Zen 4 or later."""
    return _seconds(_pointwise, torch.bfloat16) < _seconds(_pointwise, torch.float32)


@cache
def _multiplies_slowly() -> bool:
    """Whether float32 matrices take far longer than the convolution that is the same: MKL spares AMD's AVX-512."""
    return _seconds(torch.mm, torch.float32) > 1.5 * _seconds(_pointwise, torch.float32)


def _pointwise(positions: Tensor, kernel: Tensor) -> Tensor:
    return F.conv2d(positions.view(16, 8, 8, 256).permute(0, 3, 1, 2), kernel.view(256, 256, 1, 1))


def _seconds(product: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> float:
    """The least of some runs, 0.13 gigaflops each."""
    positions, kernel, times = torch.ones(1024, 256, dtype=dtype), torch.ones(256, 256, dtype=dtype), []
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for _ in range(9):
            begun = time.perf_counter()
            product(positions, kernel)
            times.append(time.perf_counter() - begun)
    return min(times)


def _product_type(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    slow = device.type == "cpu" and dtype == torch.bfloat16 and not convolves_sooner_in_bfloat16()
    return torch.float32 if slow else dtype


def _quicker(x: Tensor, weight: Tensor, rate: int, dtype: torch.dtype) -> Ours:
    if x.is_cuda:
        return _quicker_on_a_gpu(x, weight, rate, dtype)
    if dtype not in (torch.float32, torch.bfloat16):
        return _NONE
    n, _, *sides = x.shape
    work = weight.numel() * n * math.prod(sides)
    product_type = _product_type(dtype, x.device)
    if weight.shape[2:] == (1, 1):
        large = min(weight.shape[:2]) >= _LEAST_CHANNELS and work >= _LEAST_1X1_WORK
        return Ours(False, False, large and product_type == torch.bfloat16 and not _has_amx())  # not measured with AMX
    shares = [valid_taps.valid_share(side, taps, rate) for side, taps in zip(sides, weight.shape[2:], strict=True)]
    inside = math.prod(shares)
    if rate == 1 or inside * work < _LEAST_WORK * torch.get_num_threads():
        return _NONE
    if dtype == torch.bfloat16 and _has_amx() and rate >= _AMX_RATE:
        return _ALL
    slow = product_type == torch.float32 and _multiplies_slowly()
    few = inside <= (_MOST_INSIDE_IF_SLOW if slow else _MOST_INSIDE)
    return Ours(False, False, few and weight.numel() >= _LEAST_WEIGHT)


def _quicker_on_a_gpu(x: Tensor, weight: Tensor, rate: int, dtype: torch.dtype) -> Ours:
    least, ours = _ON_A_GPU.get(dtype, (math.inf, _NONE))
    if rate < least or not takes_triton(x):
        return _NONE
    from atrous.ops import atrous_conv_cuda

    return ours if atrous_conv_cuda.fits(weight, dtype) else _NONE


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
        ctx.rate, ctx.ours, ctx.bias = rate, ours, bias
        dtype = _product_type(x.dtype, x.device)
        if ours.forward:
            out = _convolve(x.permute(0, 2, 3, 1), weight, bias, rate, dtype)
            return _laid_out(out, x)
        bias = None if bias is None else bias.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            return F.conv2d(x.to(dtype), weight.to(dtype), bias, 1, _padding(weight, rate), rate).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            again = partial(_plain, rate=ctx.rate)
            found = gradients_again(again, (x, weight, ctx.bias), ctx.needs_input_grad[:3], grad)
            return *found, None, None
        rate, ours, dtype = ctx.rate, ctx.ours, _product_type(x.dtype, x.device)
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
