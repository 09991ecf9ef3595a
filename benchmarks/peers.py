"""The peers that the tests and benchmarks compare with, from where the Makefile puts them."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

PEERS = Path(sys.prefix) / "peers"


def import_peer(name: str) -> ModuleType:
    """A peer, or an ImportError.

    torchvision's operators ask for the very torch that it was made for: beside another they are left out, which its
    networks do not notice. Most peers import it.
    """
    register = torch.library.register_fake

    def leave_out(operator: object, *args: Any, **options: Any) -> Any:
        if isinstance(operator, str) and operator.startswith("torchvision::"):
            return lambda function: function
        return register(operator, *args, **options)  # type: ignore[arg-type]

    if str(PEERS) not in sys.path:
        sys.path.append(str(PEERS))
    torch.library.register_fake = leave_out  # type: ignore[assignment]
    try:
        return import_module(name)
    finally:
        torch.library.register_fake = register
