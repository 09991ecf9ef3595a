"""A run by several processes: how many there are, how they are joined, and a loss over the pixels of them all."""

import atexit
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from atrous.errors import AtrousError, RecipeError
from atrous.training.losses import Loss
from atrous.training.recipe import Recipe


@dataclass(frozen=True)
class Processes:
    """How many train together: `devices` on each of `nodes` machines, one process a device."""

    devices: int = 1
    nodes: int = 1

    @property
    def count(self) -> int:
        return self.devices * self.nodes

    def check(self, recipe: Recipe) -> None:
        """Raises RecipeError where the recipe's batch cannot be shared out evenly."""
        if recipe.batch_size % self.count:
            raise RecipeError(
                f"batch_size: {recipe.batch_size} photos cannot be shared evenly by {self.count} processes; it is the"
                " total of them all: give a multiple"
            )


def find_processes(devices: int = 1, nodes: int = 1) -> Processes:
    """As many as torchrun or SLURM's srun has started, or else as many as are asked for.

    Raises:
        AtrousError: numbers that cannot be, or that are not those of torchrun or srun.
    """
    if devices < 1 or nodes < 1:
        raise AtrousError(f"--devices {devices} --nodes {nodes}: give at least one of each")
    started = _started()
    if started is None:
        return Processes(devices, nodes)
    asked = Processes(devices, nodes)
    if asked.count > 1 and asked != started:
        raise AtrousError(
            f"--devices {devices} --nodes {nodes}: {started.devices} on each of {started.nodes} machines were started;"
            " leave both out"
        )
    return started


def _started() -> Processes | None:
    here = os.environ
    if dist.is_available() and dist.is_torchelastic_launched():
        local = int(here["LOCAL_WORLD_SIZE"])
        return Processes(local, int(here["WORLD_SIZE"]) // local)
    if _under_srun():
        if "SLURM_NTASKS_PER_NODE" not in here:
            raise AtrousError(f"SLURM's --ntasks={here['SLURM_NTASKS']}: say --nodes and --ntasks-per-node instead")
        return Processes(int(here["SLURM_NTASKS_PER_NODE"]), int(here.get("SLURM_NNODES", "1")))
    return None


def _under_srun() -> bool:
    """Whether SLURM has started several tasks; of a job of one task, or a shell on a node, nothing follows."""
    return SLURMEnvironment.detect() and int(os.environ["SLURM_NTASKS"]) > 1


def strategy_of(name: str, processes: Processes, place: torch.device) -> Any:
    """Lightning's strategy: "auto" is DDP where there are several processes.

    Raises:
        AtrousError: no strategy of that name, or devices that cannot train together.
    """
    if name not in ("auto", "ddp", "fsdp"):
        raise AtrousError(f"--strategy {name}: give auto, ddp or fsdp")
    if processes.count == 1:
        if name == "fsdp":
            raise AtrousError("--strategy fsdp shares one model out over several devices: give --devices too")
        return "auto"
    if place.type == "mps":
        raise AtrousError(f"--devices {processes.devices}: Apple's MPS has one device; give --device cpu for several")
    if ":" in str(place):
        raise AtrousError(f"--device {place}: several devices are counted from the first one on; give --device cuda")
    if place.type == "cuda" and processes.devices > torch.cuda.device_count():
        raise AtrousError(f"--devices {processes.devices}: this machine has {torch.cuda.device_count()} GPUs")
    if name == "fsdp":
        # Whole checkpoints, so that any number of devices can go on from one.
        return ModelParallelStrategy(processes.count, tensor_parallel_size=1, save_distributed_checkpoint=False)
    # Batch norm's statistics are the same in all processes already.
    return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)


def plugins() -> list[Any]:
    """How the processes find one another."""
    if dist.is_torchelastic_launched():
        return []
    # A job that is started again goes on from the run's own checkpoint, not from one of Lightning's.
    return [SLURMEnvironment(auto_requeue=False) if _under_srun() else LightningEnvironment()]


def is_grouped() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def leave_at_exit() -> None:
    """Lets go of the other processes when this one ends.

    Lightning does so for NCCL alone; gloo's thread may let go of a tensor when Python is gone already, and the process
    aborts after all its work is done.
    """
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks; before they are joined, as far as its place tells."""
    return dist.get_rank() == 0 if is_grouped() else bool(rank_zero_only.rank == 0)


def total(value: Tensor) -> Tensor:
    """The sum of all processes' values, without a gradient."""
    value = value.detach().clone()
    if is_grouped():
        dist.all_reduce(value)
    return value


def loss_over_all(
    criterion: Loss, logits: Tensor, target: Tensor, ignore_index: int = 255, align_corners: bool = True
) -> Tensor:
    """A loss on N×K×h×w coarse logits and N×H×W labels whose batch is shared out over the processes.

    The mean of the processes' values is the loss on the whole batch, and the mean of their gradients, which DDP and
    FSDP take, is its gradient: with void, a mean of the processes' own means would be neither. A process may have no
    image at all.

    Raises:
        AtrousError: as `Loss`.
    """
    if not is_grouped():
        return criterion(logits, target, ignore_index, align_corners)
    size = dist.get_world_size()
    if criterion.hardest < 1 or {*criterion.parts} - {"cross_entropy", "focal"}:
        # No mean over pixels: which count, or how much, depends on all others.
        own = criterion(_gathered(logits), _gathered(target.contiguous()), ignore_index, align_corners)
        return own * size - own.detach() * (size - 1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    share = _weight_of(criterion, target, ignore_index).to(logits.dtype)
    whole = total(share).clamp(min=torch.finfo(share.dtype).tiny)
    own = criterion(logits, target, ignore_index, align_corners) if len(logits) else logits.sum()
    return own * (size * share / whole)


def _weight_of(criterion: Loss, target: Tensor, ignore_index: int) -> Tensor:
    """What the loss on these labels divides by: the pixels that count, by their classes' weights."""
    labels = target[target != ignore_index]
    if criterion.class_weights is None:
        return torch.tensor(labels.numel(), dtype=torch.float32, device=target.device)
    return torch.tensor(criterion.class_weights, dtype=torch.float32, device=target.device)[labels.long()].sum()


def _gathered(own: Tensor) -> Tensor:
    """All processes' images along the first dimension; the gradient goes to this one's alone."""
    rank, size = dist.get_rank(), dist.get_world_size()
    count = torch.tensor([len(own)], device=own.device)
    counts = [torch.empty_like(count) for _ in range(size)]
    dist.all_gather(counts, count)
    numbers = [int(each) for each in counts]
    padded = own.new_zeros(max(numbers), *own.shape[1:])
    padded[: len(own)] = own.detach()
    every = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(every, padded)
    parts = [part[:number] for part, number in zip(every, numbers, strict=True)]
    parts[rank] = own
    return torch.cat(parts)
