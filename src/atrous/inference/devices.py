"""Where a model runs."""

import torch

from atrous.errors import AtrousError


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA if there is one, else Apple's MPS, else the CPU.

    Raises:
        AtrousError: an unknown name, or a device that this machine, or this build of torch, does not have.
    """
    if name == "auto":
        return torch.device(_best())
    try:
        device = torch.device(name)
    except RuntimeError:
        raise AtrousError(f"device {str(name)!r} is unknown: give auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "meta" or not _works(device):
        here = ", ".join(_available())
        raise AtrousError(f"device {str(name)!r} is not available here: give auto, or one of {here}")
    return device


def _best() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _available() -> list[str]:
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _works(device: torch.device) -> bool:
    # Each backend refuses in its own words and with its own exception, so trying is the one sure question.
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        return False
    return True
