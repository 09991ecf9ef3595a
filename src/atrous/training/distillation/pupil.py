"""The student's step: the teacher's soft labels, and hard ones where there are any."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from atrous.models import SegmentationModel
from atrous.training.losses import Loss
from atrous.training.module import Trainee
from atrous.training.parallel import is_grouped, total
from atrous.training.recipe import Recipe


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0, align_corners: bool = True) -> Tensor:
    """The mean cross-entropy of soft labels, times the squared temperature (Hinton et al., 2015, section 2).

    Args:
        logits: N×K×h×w; resized to the targets where they are of another size.
        targets: N×K×H×W probabilities at that temperature times their pixel's weight: their sum over K.

    Returns:
        A scalar, the weighted mean; 0, with a gradient of 0, where nothing has a weight. Where processes share a batch,
        the mean of their values is the batch's.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if logits.shape[-2:] != targets.shape[-2:]:
        logits = F.interpolate(logits, targets.shape[-2:], mode="bilinear", align_corners=align_corners)
    loss = -(targets * (logits / temperature).log_softmax(1)).sum()
    weight = total(targets.sum())
    processes = dist.get_world_size() if is_grouped() else 1
    return temperature**2 * processes * loss / weight.clamp(min=torch.finfo(weight.dtype).tiny)


class Pupil(Trainee):
    """A model that learns from a teacher.

    Args:
        criterion: of coarse logits and hard labels.
        labelled: its share of the loss; 0 where all is the teacher's.
    """

    def __init__(
        self,
        model: SegmentationModel,
        recipe: Recipe,
        ignore_index: int,
        criterion: Loss,
        temperature: float,
        labelled: float,
    ) -> None:
        super().__init__(model, recipe, ignore_index, criterion)
        self.temperature, self.labelled = temperature, labelled

    def judge(self, logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        """The loss on N×K×h×w logits, of N×H×W labels and of soft ones as `SoftCrops` gives them."""
        loss = (1 - self.labelled) * soft_cross_entropy(logits, targets, self.temperature, self.model.align_corners)
        return loss + self.labelled * super().judge(logits, labels) if self.labelled else loss
