"""Batch normalisation over the batch of all processes."""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atrous.layers import BatchNorm2d


class SynchronisedBatchNorm2d(BatchNorm2d):
    """A `BatchNorm2d` that in training takes mean and variance over the images of all processes.

    They are then those of one process with the whole batch (v3, section 4.1, asks for 16 images). Unlike
    `torch.nn.SyncBatchNorm` it runs on the CPU too, and a process may have no image at all, as in an epoch's last
    batch. In evaluation it is what it was made of.
    """

    def forward(self, x: Tensor) -> Tensor:
        return _synchronised(self, x) if self.training else super().forward(x)


def synchronise(model: nn.Module) -> None:
    """Has a model's batch norms, but for frozen ones, share their statistics among the processes; all names stay."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, BatchNorm2d) and not child.frozen:
                norm = SynchronisedBatchNorm2d.__new__(SynchronisedBatchNorm2d)
                norm.__dict__ = child.__dict__
                setattr(parent, name, norm)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _synchronised(norm: SynchronisedBatchNorm2d, x: Tensor) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    values = x.numel() // x.shape[1]
    mean, var, count = _gathered_statistics(x.detach(), values)
    # Only who has one value or none has to ask: this waits for a GPU.
    if values <= 1 and int(count) == 1:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
    with torch.no_grad():
        momentum = norm.momentum or 0.0
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(var * (count / (count - 1)), momentum)
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
    return _Normalise.apply(x, norm.weight, norm.bias, mean, var, count, norm.eps)  # type: ignore[no-any-return,no-untyped-call]


def _gathered_statistics(x: Tensor, values: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over all processes, and the number of values, in float32 or wider.

    Each process centres on its own mean, and the parts are joined as Chan et al. (1979) do: sums of squares would lose
    the variance of a channel whose mean is large.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    own = torch.zeros(2 * x.shape[1] + 1, dtype=dtype, device=x.device)
    if values:
        var, mean = torch.var_mean(x.to(dtype), (0, 2, 3), correction=0)
        own = torch.cat([mean, var, own.new_full((1,), values)])
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    every = torch.stack(parts)
    (means, variances), counts = every[:, :-1].tensor_split(2, 1), every[:, -1:]
    count = counts.sum()
    shares = counts / count
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean) ** 2)).sum(0), count


class _Normalise(torch.autograd.Function):
    """torch's own loops with fixed statistics, and behind them what the gradient has through the statistics.

    That is, with x̂ the normalised input, -(Σ g + x̂ Σ g x̂) / n for a gradient g, the sums over all processes; torch
    gives this process's sums as the gradients of bias and weight.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        if x.numel():
            back, d_weight, d_bias = torch.ops.aten.native_batch_norm_backward(
                grad, x, weight, mean, var, None, None, False, ctx.eps, (True, True, True)
            )
        else:
            back, d_weight, d_bias = torch.zeros_like(x), torch.zeros_like(weight), torch.zeros_like(weight)
        sums = torch.stack([d_bias, d_weight])
        dist.all_reduce(sums)
        inverse = (var + ctx.eps).rsqrt()
        slope = -weight * inverse**2 * sums[1] / count
        offset = -weight * inverse * sums[0] / count - slope * mean
        if x.numel():
            back += (x * slope[:, None, None] + offset[:, None, None]).to(back.dtype)
        return back, d_weight, d_bias, None, None, None, None
