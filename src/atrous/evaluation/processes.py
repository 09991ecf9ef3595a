"""One evaluation by several processes, as torchrun starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from atrous.evaluation.evaluation import Evaluation, merge


def share(count: int) -> range:
    """The photos of `count` that are this process's: successive ones, so that the parts are in order.

    All of them where there is no process group.
    """
    if not _grouped():
        return range(count)
    rank, size = dist.get_rank(), dist.get_world_size()
    return range(count * rank // size, count * (rank + 1) // size)


def gather(part: Evaluation) -> Evaluation:
    """Every process's part together, in every process; `part` itself where there is no process group."""
    if not _grouped():
        return part
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, part)
    return merge(parts)


@contextmanager
def torchrun_processes() -> Iterator[int]:
    """Joined to the processes that torchrun has started beside this one, if it has, until the block ends.

    The counts are gathered on the CPU (gloo), wherever the network runs. A group that was there already stays.

    Yields:
        This process's number, 0 if it is alone.
    """
    ours = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized()
    if ours:
        dist.init_process_group("gloo")
    try:
        yield dist.get_rank() if _grouped() else 0
    finally:
        if ours:  # else its thread may let go of a tensor when Python is gone already, and the process aborts
            dist.destroy_process_group()


def own_device(device: str) -> str:
    """The device for this process: of "auto" and "cuda", the GPU of its number on this machine."""
    local = os.environ.get("LOCAL_RANK")
    if device in ("auto", "cuda") and _grouped() and local is not None and torch.cuda.is_available():
        return f"cuda:{int(local) % torch.cuda.device_count()}"
    return device


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()
