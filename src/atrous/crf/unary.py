"""Unary energies, -log P, from what a network or a person says."""

import torch
from torch import Tensor

from atrous.errors import AtrousError

_LEAST = 1e-38  # close to the smallest float32: a label that was rounded to impossible stays one


def unary_from_probabilities(probabilities: Tensor) -> Tensor:
    """Energies of probabilities, of any shape.

    Raises:
        AtrousError: a value that is negative or not finite.
    """
    if not bool((probabilities >= 0).all() & probabilities.isfinite().all()):
        raise AtrousError("probabilities hold a value that is negative or not finite")
    return -probabilities.clamp(min=_LEAST).log()


def unary_from_logits(logits: Tensor, dim: int = 0) -> Tensor:
    """Energies of logits whose labels lie along `dim`."""
    return -logits.log_softmax(dim)


def unary_from_labels(labels: Tensor, classes: int, confidence: float, ignore_index: int = 255) -> Tensor:
    """K×… energies of hard labels.

    Args:
        labels: whole numbers from 0 to classes - 1; `ignore_index` where every class is as likely.
        confidence: how probable the given label is, between 0 and 1; the others share the rest equally.

    Raises:
        AtrousError: a confidence or label out of range, or fewer than two classes.
    """
    if classes < 2 or not 0 < confidence < 1:
        raise AtrousError(f"{classes} classes at confidence={confidence:g}: give 2 or more, and one between 0 and 1")
    unsure = labels == ignore_index
    wrong = labels[~unsure & ((labels < 0) | (labels >= classes))]
    if wrong.numel():
        raise AtrousError(f"labels hold {int(wrong[0])}: they are 0 to {classes - 1}, or {ignore_index} if unsure")
    shape = (classes, *labels.shape)
    probabilities = torch.full(shape, (1 - confidence) / (classes - 1), device=labels.device)
    known = labels.masked_fill(unsure, 0).long()
    probabilities.scatter_(0, known[None], confidence)
    probabilities[:, unsure] = 1 / classes
    return -probabilities.log()
