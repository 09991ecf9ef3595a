"""Gradients that are to be differentiated once more."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_again(
    reference: Callable[..., Tensor], inputs: Sequence[Tensor | None], needed: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """A function's gradients by those of its inputs that need one, with a graph of their own, by plain torch.

    For a `backward` in which gradients are recorded (`create_graph=True`): our loops are nothing that torch could
    differentiate, and would be constants to it.
    """
    # Each under a name of its own: one may come from another, whose gradient is not to be gone through twice.
    own = [None if each is None else each.view_as(each) for each in inputs]
    wanted = [each for each, need in zip(own, needed, strict=True) if each is not None and need]
    found = iter(torch.autograd.grad(reference(*own), wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
