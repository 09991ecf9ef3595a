"""The Triton kernels where there is no GPU: run by the interpreter, compiled for other machines, and left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from atrous.ops import triton_here, upsample_argmax
from atrous.ops.upsample import reference_argmax

TURING, HOPPER = 75, 90
POINTERS = {
    "logits": "*fp32", "labels": "*u8", "target": "*i64", "factor": "*fp32", "gradient": "*fp32", "weights": "*fp32",
    "losses": "*fp32", "normalisers": "*fp32", "shares": "*fp32", "probabilities": "*fp32", "sizes": "*i64",
    "firsts": "*i64", "row_lower": "*i64", "row_upper": "*i64", "row_weight": "*fp32", "column_lower": "*i64",
    "column_upper": "*i64", "column_weight": "*fp32", "x": "*bf16", "taps": "*bf16", "bias": "*bf16", "out": "*bf16",
    "tiles": "*i32",
}  # fmt: skip
NUMBERS = dict.fromkeys(["row_scale", "column_scale", "row_inverse", "column_inverse", "share"], "fp32")


@pytest.mark.slow
def test_the_kernels_equal_their_references_under_the_interpreter():
    """In a process of its own: Triton decides on its first import whether it interprets."""
    pytest.importorskip("triton")
    tests = Path(__file__).with_name("test_cuda.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def compiled(kernel, constants, types, capability):
    """What the GPU's assembler makes of the kernel."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {name: {**POINTERS, **NUMBERS, **types}.get(name, "i32") for name in kernel.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    options = {"num_warps": 4, "enable_fp_fusion": False}
    return triton.compile(ASTSource(kernel, signature, constants), GPUTarget("cuda", capability, 32), options).asm


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "ones"), [(TURING, True), (HOPPER, False)])
def test_the_kernels_compile(capability, ones, tmp_path, monkeypatch):
    """The interpreter does not see types: these are what the compiler accepts, without a GPU.

    Triton makes a constant of every size and stride that is 1.
    """
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from atrous.ops import argmax_cuda, atrous_conv_cuda, average_cuda, cross_entropy_cuda

    row = {"classes": 21, "align": True, "pixels": 128}
    for kernel, constants in (
        (argmax_cuda._label, row),
        (cross_entropy_cuda._losses, row),
        (cross_entropy_cuda._add_cells, {"align": False, "pixels": 16, "some": 32}),
        (average_cuda._average, {"with_probabilities": True, "pixels": 64, "some": 32}),
        (atrous_conv_cuda._convolve, {"with_bias": True, "positions": 32, "across": 32, "step": 32}),
    ):
        whole = {name for name in kernel.arg_names if name not in {*POINTERS, *NUMBERS, *constants}}
        half = {} if kernel is average_cuda._average else {"logits": "*bf16", "target": "*u8"}
        assembly = compiled(kernel, constants | (dict.fromkeys(whole, 1) if ones else {}), half, capability)
        assert assembly["cubin"]
        # A fused step would round once, where the reference rounds twice, and labels would differ.
        if kernel is argmax_cuda._label:
            assert "fma.rn.f32" not in assembly["ptx"]


def test_without_a_gpu_nothing_imports_triton():
    code = (
        "import sys, torch; from atrous.ops import *; x = torch.randn(1, 3, 5, 5, requires_grad=True);"
        "upsample_argmax(x, (9, 9)); upsample_cross_entropy(x, torch.zeros(1, 9, 9).long()).backward();"
        "print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


class OnAGPU(torch.Tensor):
    """One that says so."""

    @property
    def is_cuda(self):
        return True


def test_a_triton_that_does_not_work_is_left_alone(monkeypatch):
    """Said once; the labels are the reference's."""
    monkeypatch.setattr(triton_here, "_INSTALLED", True)
    monkeypatch.setitem(sys.modules, "atrous.ops.argmax_cuda", None)
    triton_here._works.cache_clear()
    logits = torch.randn(1, 3, 4, 4)
    with pytest.warns(UserWarning, match="Triton does not work here, torch's own slower operators are used: ") as said:
        labels = [upsample_argmax(logits.as_subclass(OnAGPU), (9, 9)) for _ in range(2)]
    triton_here._works.cache_clear()
    assert len(said) == 1
    assert all(torch.equal(each.as_subclass(torch.Tensor), reference_argmax(logits, (9, 9))) for each in labels)


def test_float64_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(triton_here, "_INSTALLED", True)
    monkeypatch.setattr(triton_here, "_works", lambda: True)
    logits = torch.randn(1, 3, 4, 4)
    assert triton_here.takes_triton(logits.as_subclass(OnAGPU))
    assert not triton_here.takes_triton(logits.double().as_subclass(OnAGPU))
    assert not triton_here.takes_triton(logits)
