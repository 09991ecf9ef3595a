"""One training step, as a Lightning module."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import AveragedModel

from atrous.models import SegmentationModel, shrink_labels
from atrous.training.losses import Loss
from atrous.training.optimizer import make_optimizer, make_schedule
from atrous.training.parallel import loss_over_all, total
from atrous.training.recipe import Recipe


class Trainee(lightning.LightningModule):  # type: ignore[misc]
    """A model in training, and its moving average where the recipe wants one.

    Args:
        criterion: of coarse logits and labels.

    Attributes:
        last_loss: of the last batch, over all processes.
    """

    last_loss: Tensor

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
            self.average.requires_grad_(False)
        self._compiled: Callable[[Tensor], list[tuple[Tensor, float]]] | None = None
        self._whole: tuple[SegmentationModel, ...] = ()  # in a tuple, so that it is no part of the checkpoint
        self._whole_at = -1

    @property
    def best_guess(self) -> nn.Module:
        """The network to judge and to keep: the moving average where there is one.

        Under FSDP a copy with all of the weights: every process must ask for it, once a step at least.
        """
        network = self.model if self.average is None else self.average.module
        if not self._whole:
            return network
        if self._whole_at == self.global_step:
            return self._whole[0]
        state = network.state_dict()
        whole = {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in state.items()}
        self._whole[0].load_state_dict(whole)
        self._whole_at = self.global_step
        return self._whole[0]

    def configure_model(self) -> None:
        """Shares the weights out under FSDP. Compilation leaves their names, and so the checkpoint, as they are."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not self._whole:
            self._whole = (deepcopy(self.model),)
            mesh = self.device_mesh["data_parallel"]
            for network in (self.model, *([] if self.average is None else [self.average.module])):
                for parameter in network.parameters():
                    parameter.data = parameter.data.contiguous()  # the only layout that it shares out
                fully_shard(network, mesh=mesh)
            register_fsdp_forward_method(self.model, "training_logits")
        if self.recipe.compile:
            self._compiled = torch.compile(self.model.training_logits)

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        # Dropout depends on the batch and the process alone, so that a resumed run equals one that was never stopped.
        number = self.current_epoch * int(self.trainer.num_training_batches) + index
        seed = self.recipe.seed * 1_000_003 + number
        torch.manual_seed(seed * self.trainer.world_size + self.global_rank)
        loss = self.loss(*batch)
        photos = total(torch.tensor(len(batch[0]), device=loss.device))
        value = self.last_loss = total(loss) / self.trainer.world_size
        self.log("loss", value, prog_bar=True, on_step=False, on_epoch=True, batch_size=photos)
        return loss * self._share(index)

    def _share(self, index: int) -> float:
        """By which a batch's loss is multiplied where an epoch's last step has fewer batches than the others.

        Lightning divides by `accumulate` all the same.
        """
        batches, each = int(self.trainer.num_training_batches), self.recipe.accumulate
        left = batches % each
        return each / left if left and index >= batches - left else 1.0

    def loss(self, images: Tensor, *truth: Tensor) -> Tensor:
        """Of N×3×h×w images and N×h×w labels: the criterion on all that the model gives to be judged in training."""
        judge = self._compiled or self.model.training_logits
        judged = judge(images.contiguous(memory_format=torch.channels_last))
        with torch.autocast(images.device.type, enabled=False):
            return torch.stack([weight * self.judge(logits, *truth) for logits, weight in judged]).sum()

    def judge(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss on one of the model's outputs, N×K×h×w."""
        align_corners = self.model.align_corners
        if not self.recipe.upsample_logits:
            labels = shrink_labels(labels, logits.shape[-2:], align_corners)
        return loss_over_all(self.criterion, logits, labels, self.ignore_index, align_corners)

    def optimizer_step(self, *args: Any, **options: Any) -> None:
        super().optimizer_step(*args, **options)
        self.follow()

    def follow(self) -> None:
        """Brings the moving average up to date, after each step of the optimiser."""
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
        schedule = make_schedule(optimizer, self.recipe.schedule, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
