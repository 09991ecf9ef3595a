"""Whether a call is being recorded or transformed rather than computed."""

import torch


def is_traced() -> bool:
    """Under `torch.compile`, `torch.export`, `torch.jit.trace`, ONNX, `torch.func`'s transforms or a dispatch mode.

    They know torch's operators and not ours. Dispatch modes are `make_fx`, fake tensors and torch's counter of FLOPs.
    """
    return (
        torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        or torch.compiler.is_compiling()
        or torch.onnx.is_in_onnx_export()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )
