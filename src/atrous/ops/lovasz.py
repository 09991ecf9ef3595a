"""The Lovász extension of the Jaccard loss (Berman et al., CVPR 2018) without sorting.

Sorted by its error, each pixel counts by what it adds to the Jaccard loss. Sorting is most of the time that takes; on a
CPU `lovasz_cpu` counts errors in 131,072 steps instead, in whose order they are then; of one step the pixels of the
class share alike, and so do the others. The loss differs by less than a step's width, 8e-6.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.ops.gradients import gradients_again
from atrous.ops.tracing import is_traced
from atrous.ops.upsample import check_target


def lovasz_losses(probabilities: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """Each class's loss over all of a batch's pixels that count, section 3.1 and algorithm 1: K numbers.

    Args:
        probabilities: N×K×H×W, in 0..1.
        target: N×H×W integers in 0..K-1, or `ignore_index`. A class that it lacks has a loss all the same.

    Raises:
        AtrousError: a target of another shape, or of no whole numbers.
    """
    check_target(target, len(probabilities))
    if target.shape[1:] != probabilities.shape[2:]:
        raise AtrousError(f"a target of {tuple(target.shape)} for probabilities of {tuple(probabilities.shape)}")
    if probabilities.device.type != "cpu" or probabilities.dtype != torch.float32 or is_traced():
        return reference_lovasz_losses(probabilities, target, ignore_index)
    losses: Tensor = _LovaszLosses.apply(probabilities, target, ignore_index)  # type: ignore[no-untyped-call]
    return losses


def reference_lovasz_losses(probabilities: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
    """`lovasz_losses` in plain torch."""
    labels = target.flatten()
    counts = labels != ignore_index
    labels = labels[counts]
    each = probabilities.movedim(1, 0).flatten(1)[:, counts]
    return torch.stack([_sorted(probability, labels == index) for index, probability in enumerate(each)])


def _sorted(probability: Tensor, truth: Tensor) -> Tensor:
    """One class: its errors from the largest to the smallest, each by what it adds to the Jaccard loss."""
    errors = torch.where(truth, 1 - probability, probability)
    errors, order = errors.sort(descending=True)
    hits = truth[order].to(errors.dtype)
    intersection = hits.sum() - hits.cumsum(0)
    union = hits.sum() + (1 - hits).cumsum(0)
    jaccard = 1 - intersection / union
    steps = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
    return errors @ steps


class _LovaszLosses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, target: Tensor, ignore_index: int) -> Tensor:
        # numba takes half a second to import, which only training needs to wait for.
        from atrous.ops.lovasz_cpu import losses_and_slopes

        losses, slopes = losses_and_slopes(probabilities, target, ignore_index)
        ctx.save_for_backward(slopes)
        ctx.given = probabilities, target, ignore_index
        return losses

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            probabilities, target, ignore_index = ctx.given
            again = partial(reference_lovasz_losses, target=target, ignore_index=ignore_index)
            return *gradients_again(again, [probabilities], [True], grad), None, None
        return slopes * grad[:, None, None], None, None
