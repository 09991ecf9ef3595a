"""Batch normalisation in training, with the activation behind it, in as few passes over memory as there can be.

On a CPU it is memory that a batch norm waits for, not arithmetic. Torch normalises, clips, and in the gradient masks
and normalises in passes of their own; `batch_norm_cpu` has one for the statistics and one for the output, one for the
gradient's sums and one for the gradient. The activation's mask is found again from the input, so that the output is
not read.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.ops.gradients import gradients_again
from atrous.ops.tracing import is_traced


class Clip(NamedTuple):
    """An activation that keeps what lies between two numbers: ReLU is (0, ∞), ReLU6 (0, 6)."""

    low: float = -math.inf
    high: float = math.inf


UNCLIPPED = Clip()


class Running(NamedTuple):
    """The statistics that a layer keeps, C each, and the share of them that a batch replaces."""

    mean: Tensor
    variance: Tensor
    momentum: float


def has_batch_norm(x: Tensor) -> bool:
    """Whether `batch_norm` has a loop of its own for N×C×H×W: channels last, float32 or bfloat16, on the CPU.

    Not under `torch.compile`, `torch.export` or ONNX, nor where no gradient is taken.
    """
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and torch.is_grad_enabled()
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > x.shape[1]
        and x.numel() % 8 == 0  # the loops take eight numbers at a time
        and not is_traced()
    )


def batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: Running,
    eps: float,
    *,
    frozen: bool = False,
    clip: Clip = UNCLIPPED,
) -> Tensor:
    """N×C×H×W normalised by the batch's statistics, scaled, shifted and clipped; x's type and place in memory.

    As `torch.nn.functional.batch_norm` and the activation behind it. `running` is brought up to date in place, its
    variance the unbiased one. Sums are taken in float32 a few rows at a time, and in float64 beyond.

    Args:
        frozen: normalises by `running` and leaves it as it is.
    """
    if not has_batch_norm(x) or weight.dtype != torch.float32:
        return reference_batch_norm(x, weight, bias, running, eps, frozen=frozen, clip=clip)
    return _BatchNorm.apply(x, weight, bias, running, eps, frozen, clip)  # type: ignore[no-any-return,no-untyped-call]


def reference_batch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running: Running,
    eps: float,
    *,
    frozen: bool = False,
    clip: Clip = UNCLIPPED,
) -> Tensor:
    """`batch_norm` in plain torch."""
    out = F.batch_norm(x, running.mean, running.variance, weight, bias, not frozen, running.momentum, eps)
    # Not clamp: at the ends themselves its gradient is not an activation's.
    return F.hardtanh(out, *clip)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, running: Running, eps: float, frozen: bool, clip: Clip
    ) -> Tensor:
        # numba takes half a second to import, which only training needs to wait for.
        from atrous.ops.batch_norm_cpu import Scale, Table, batch_scale, normalise

        table = Table(x)
        ctx.scale = Scale.of(running, weight, bias, eps) if frozen else batch_scale(table, running, weight, bias, eps)
        ctx.save_for_backward(x)
        ctx.frozen, ctx.clip, ctx.running, ctx.eps, ctx.affine = frozen, clip, running, eps, (weight, bias)
        return normalise(table, ctx.scale, clip)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            # A copy: what is computed twice is no second batch.
            running = Running(ctx.running.mean.clone(), ctx.running.variance.clone(), 0.0)
            again = partial(reference_batch_norm, running=running, eps=ctx.eps, frozen=ctx.frozen, clip=ctx.clip)
            found = gradients_again(again, (*ctx.saved_tensors, *ctx.affine), ctx.needs_input_grad[:3], grad)
            return *found, None, None, None, None
        from atrous.ops.batch_norm_cpu import Table, gradients, input_gradient

        x = ctx.saved_tensors[0]
        table, incoming = Table(x), Table(grad.to(x.dtype).contiguous(memory_format=torch.channels_last))
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        slope = grad_x = grad_weight = grad_bias = None
        if wants_weight or wants_bias or not ctx.frozen:
            grad_weight, grad_bias, slope = gradients(incoming, table, ctx.scale, ctx.clip)
        if wants_x:
            grad_x = input_gradient(incoming, table, ctx.scale, ctx.clip, None if ctx.frozen else slope)
        return grad_x, grad_weight, grad_bias, None, None, None, None
