"""Whether a call is being recorded rather than computed."""

import torch


def is_traced() -> bool:
    """Under `torch.compile`, `torch.export`, `torch.jit.trace` or ONNX, which know torch's operators and not ours."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
