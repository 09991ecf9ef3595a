"""Functions run by several processes that are joined through gloo, as torchrun would start and join them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

_LIBRARY = [
    "lightning.pytorch",
    "atrous.training",
    "atrous.training.distillation",
    "torch.distributed.checkpoint.state_dict",
    "torch.utils.tensorboard",
    "matplotlib.figure",
    "atrous.ops.batch_norm_cpu",
    "atrous.ops.depthwise_cpu",
    "atrous.ops.upsample_cpu",
]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(_LIBRARY)


def together(processes: int, target: Callable[..., None], *arguments: Any) -> None:
    """Calls `target(*arguments)` in so many processes at once, forked from one that has the library imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        SERVER.Process(target=_member, args=(rank, processes, port, target, arguments)) for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(200)
    alive = [process for process in started if process.is_alive()]
    for process in alive:
        process.kill()
    assert not alive, "a process waits for one that does not come"
    assert [process.exitcode for process in started] == [0] * processes


def _member(rank: int, processes: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }
    target(*arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
