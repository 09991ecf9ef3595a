"""Losses on coarse logits against the intact ground truth: cross-entropy, focal, Dice and Lovász-softmax.

All take the network's own small logits and upsample them to the labels (v3, section 4.1), never see void, and are means
over what counts: neither the share of void nor the batch's size changes their scale, nor do pixels of void in a focal
loss (a peer divides by them too). A batch without any pixel that counts gives 0, with a gradient of 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from atrous.errors import AtrousError
from atrous.ops import lovasz_losses, upsample_cross_entropy
from atrous.ops.upsample import check_target

LossName: TypeAlias = Literal["cross_entropy", "focal", "dice", "lovasz"]


@dataclass(frozen=True)
class Loss:
    """A weighted sum of losses.

    Attributes:
        parts: each loss's share, e.g. {"cross_entropy": 1, "dice": 0.5}.
        class_weights: K numbers, or none for equal ones; `atrous.data.balance` makes them of a data set.
        hardest: of cross-entropy: the share of the pixels that counts, those of the largest loss.
        gamma: of the focal loss.
    """

    parts: Mapping[LossName, float] = field(default_factory=lambda: {"cross_entropy": 1.0})
    class_weights: tuple[float, ...] | None = None
    hardest: float = 1.0
    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not self.parts or min(self.parts.values()) <= 0:
            raise AtrousError(f"a loss of {dict(self.parts)}: name one or more, each with a share above 0")
        if unknown := [name for name in self.parts if name not in ("cross_entropy", "focal", "dice", "lovasz")]:
            raise AtrousError(f"no loss is called {unknown[0]!r}; there are cross_entropy, focal, dice and lovasz")
        if self.gamma < 0:
            raise AtrousError(f"gamma={self.gamma}: below 0 a focal loss grows without bound where a pixel is right")

    def __call__(self, logits: Tensor, target: Tensor, ignore_index: int = 255, align_corners: bool = True) -> Tensor:
        """N×K×h×w logits and N×H×W labels to a scalar.

        Raises:
            AtrousError: a label that is neither a class nor `ignore_index`, or not one weight for each class.
        """
        weight = None
        if self.class_weights is not None:
            if len(self.class_weights) != logits.shape[1]:
                raise AtrousError(
                    f"{len(self.class_weights)} class_weights for {logits.shape[1]} classes: give each one"
                )
            weight = torch.tensor(self.class_weights, dtype=torch.float32, device=logits.device)
        plain: dict[str, Any] = {"ignore_index": ignore_index, "align_corners": align_corners, "weight": weight}
        total = logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32))
        for name, share in self.parts.items():
            if name == "cross_entropy":
                loss = upsample_cross_entropy(logits, target, hardest=self.hardest, **plain)
            elif name == "focal":
                loss = focal_loss(logits, target, gamma=self.gamma, **plain)
            else:
                loss = (dice_loss if name == "dice" else lovasz_softmax)(logits, target, **plain)
            total = total + share * loss
        return total


def focal_loss(
    logits: Tensor,
    target: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    weight: Tensor | None = None,
    gamma: float = 2.0,
) -> Tensor:
    """Cross-entropy in which each pixel counts by (1 - p)^gamma, p its own class's probability.

    Lin et al., ICCV 2017, section 3.2. With a gamma of 0 it is `upsample_cross_entropy`.

    Args:
        logits: N×K×h×w.
        target: N×H×W integers in 0..K-1, or `ignore_index`.
        weight: K class weights (the paper's alpha); the loss is then the weighted mean.
    """
    _check(logits, target, ignore_index)
    sums = [
        # An image at a time, and its full-size logits made again for the gradient: they are never held for the batch.
        checkpoint(_focal_sums, image, labels, ignore_index, align_corners, weight, gamma, **_CHECKPOINT)
        for image, labels in zip(torch.split(logits, 1), torch.split(target, 1), strict=True)
    ]
    total, count = (torch.stack(column).sum() for column in zip(*sums, strict=True))
    return total / count.clamp(min=torch.finfo(count.dtype).tiny)


def dice_loss(
    logits: Tensor,
    target: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    weight: Tensor | None = None,
) -> Tensor:
    """One minus the Dice coefficient of probabilities and truth, a mean over the classes that the batch holds.

    Sums are taken over all of the batch's pixels that count (Sudre et al., DLMIA 2017, without its weights): an image
    that lacks a class adds to that class's false positives alone.

    Args:
        logits: N×K×h×w.
        target: N×H×W integers in 0..K-1, or `ignore_index`.
        weight: K class weights; the mean over classes is then the weighted one.
    """
    _check(logits, target, ignore_index)
    sums = [
        checkpoint(_dice_sums, image, labels, ignore_index, align_corners, **_CHECKPOINT)
        for image, labels in zip(torch.split(logits, 1), torch.split(target, 1), strict=True)
    ]
    both, either, truth = (torch.stack(column).sum(0) for column in zip(*sums, strict=True))
    present = truth > 0
    losses = 1 - 2 * both[present] / either[present]
    return _mean(losses, None if weight is None else weight[present])


def lovasz_softmax(
    logits: Tensor,
    target: Tensor,
    ignore_index: int = 255,
    align_corners: bool = True,
    weight: Tensor | None = None,
) -> Tensor:
    """The Lovász extension of the Jaccard loss, a mean over the classes that the batch holds.

    Berman et al., CVPR 2018, section 3.1 and algorithm 1; over all pixels of the batch, as its "batch-wise" variant.
    The batch's full-size probabilities are held.

    Args:
        logits: N×K×h×w.
        target: N×H×W integers in 0..K-1, or `ignore_index`.
        weight: K class weights; the mean over classes is then the weighted one.
    """
    _check(logits, target, ignore_index)
    present = torch.bincount(target[target != ignore_index].flatten(), minlength=logits.shape[1]) > 0
    losses = lovasz_losses(_upsample(logits, target, align_corners).softmax(1), target, ignore_index)[present]
    return _mean(losses, None if weight is None else weight[present])


_CHECKPOINT: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}


def _upsample(logits: Tensor, target: Tensor, align_corners: bool) -> Tensor:
    # One class after another in memory, in which softmax and sums over the pixels are fastest.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32), memory_format=torch.contiguous_format)
    return F.interpolate(logits, size=target.shape[-2:], mode="bilinear", align_corners=align_corners)


def _focal_sums(
    logits: Tensor, target: Tensor, ignore_index: int, align_corners: bool, weight: Tensor | None, gamma: float
) -> tuple[Tensor, Tensor]:
    """The sum of the losses, and of the weights, over the pixels that count."""
    counts = target != ignore_index
    full = _upsample(logits, target, align_corners)
    losses = F.cross_entropy(full, target.long(), ignore_index=ignore_index, reduction="none")[counts]
    # 1 - p without rounding; above 0, where a power below one has no slope.
    missing = (-torch.expm1(-losses)).clamp(min=torch.finfo(losses.dtype).tiny)
    shares = torch.ones_like(losses) if weight is None else weight.to(losses.dtype)[target[counts].long()]
    return (shares * missing**gamma * losses).sum(), shares.sum()


def _dice_sums(logits: Tensor, target: Tensor, ignore_index: int, align_corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """By class: the probability at pixels of the class, the probability and the truth at all, and the truth."""
    classes = logits.shape[1]
    p = _upsample(logits, target, align_corners).softmax(1)
    counts = (target != ignore_index).flatten()
    labels = target.flatten()[counts].long()
    own = -F.nll_loss(p, target.long(), ignore_index=ignore_index, reduction="none").flatten()[counts]
    truth = torch.bincount(labels, minlength=classes).to(p.dtype)
    return p.new_zeros(classes).index_add(0, labels, own), p[0].flatten(1) @ counts.to(p.dtype) + truth, truth


def _mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """0 if there are none."""
    if weight is None:
        return losses.sum() / max(1, len(losses))
    weight = weight.to(losses.dtype)
    return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(losses.dtype).tiny)


def _check(logits: Tensor, target: Tensor, ignore_index: int) -> None:
    check_target(target, len(logits))
    outside = target[(target != ignore_index) & ((target < 0) | (target >= logits.shape[1]))]
    if outside.numel():
        allowed = f"labels are 0 to {logits.shape[1] - 1}, or {ignore_index} where ignored"
        raise AtrousError(f"the target holds {int(outside[0])}: {allowed}")
