"""Whether the Triton kernels can be used."""

import warnings
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from atrous.ops.tracing import is_traced

_INSTALLED = find_spec("triton") is not None  # torch brings it on Linux with CUDA, and leaves it out elsewhere
_TYPES = (torch.float32, torch.float16, torch.bfloat16)


def takes_triton(tensor: Tensor) -> bool:
    """Whether a kernel can take the tensor: on a GPU that Triton works on, not in float64, and not for ONNX or jit."""
    if not (_INSTALLED and tensor.is_cuda and tensor.dtype in _TYPES):
        return False
    # torch.compile needs Triton there itself, and cannot look into what follows.
    return torch.compiler.is_compiling() or (not is_traced() and _works())


@cache
def _works() -> bool:
    """Tries the smallest kernel: the GPU may be too old, or the C compiler missing that Triton calls."""
    try:
        from atrous.ops.argmax_cuda import label

        label(torch.zeros(1, 1, 1, 1, device="cuda"), (1, 1), True, (1, 1))
    except Exception as error:
        first = str(error).partition("\n")[0]
        warnings.warn(f"Triton does not work here, torch's own slower operators are used: {first}", stacklevel=2)
        return False
    return True
