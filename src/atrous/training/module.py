"""One training step, the optimiser and the schedule, as a Lightning module."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from atrous.models import SegmentationModel, shrink_labels
from atrous.training.losses import Loss
from atrous.training.recipe import OptimizerRecipe, Recipe


class Trainee(lightning.LightningModule):  # type: ignore[misc]
    """A model in training, and its moving average where the recipe wants one.

    Args:
        criterion: of coarse logits and labels.
    """

    def __init__(
        self, model: SegmentationModel, recipe: Recipe, ignore_index: int, criterion: Loss | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.ignore_index = ignore_index
        self.criterion = criterion or Loss()
        self.average: AveragedModel | None = None
        if recipe.ema_decay:
            self.average = AveragedModel(model, multi_avg_fn=self._average, use_buffers=True)

    @property
    def best_guess(self) -> nn.Module:
        """The network to judge and to keep: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        # Dropout depends on the step alone, so that a resumed run equals one that was never stopped.
        torch.manual_seed(self.recipe.seed * 1_000_003 + self.global_step)
        loss = self.loss(*batch)
        self.log("loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Of N×3×h×w images and N×h×w labels: the criterion on all that the model gives to be judged in training."""
        judged = self.model.training_logits(images.contiguous(memory_format=torch.channels_last))
        align_corners = self.model.align_corners
        losses = []
        for logits, weight in judged:
            truth = labels
            if not self.recipe.upsample_logits:
                truth = shrink_labels(labels, logits.shape[-2:], align_corners)
            with torch.autocast(images.device.type, enabled=False):
                losses.append(weight * self.criterion(logits, truth, self.ignore_index, align_corners))
        return torch.stack(losses).sum()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.average is not None:
            self.average.update_parameters(self.model)

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        # Early on the average follows quickly, so that the random start does not linger in it.
        seen = float(count)
        decay = min(self.recipe.ema_decay, (1 + seen) / (10 + seen))
        for mean, value in zip(averaged, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - decay)
            else:
                mean.copy_(value)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = make_optimizer(self.model, self.recipe.optimizer)
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.recipe.schedule.warmup_epochs * steps / self.recipe.schedule.epochs)
        power = self.recipe.schedule.power

        def factor(step: int) -> float:
            ramp = min(1.0, (step + 1) / (warmup + 1))
            return float(ramp * max(0.0, 1 - step / steps) ** power)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_optimizer(model: SegmentationModel, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Four groups of parameters: backbone or head, decayed or not."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        in_backbone = name.startswith("backbone.")
        depthwise = parameter.ndim == 4 and parameter.shape[1] == 1 and parameter.shape[-1] > 1
        decays = parameter.ndim > 1 and not depthwise
        groups.setdefault((in_backbone, decays), []).append(parameter)
    settings = [
        {
            "params": parameters,
            "lr": recipe.lr * (recipe.backbone_multiplier if in_backbone else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in groups.items()
    ]
    if recipe.name == "adamw":
        return torch.optim.AdamW(settings, lr=recipe.lr)
    return torch.optim.SGD(settings, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
