"""What the machine is, in words."""

import platform
from pathlib import Path

_MATRIX_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # the best of which is told


def processor() -> str:
    """The processor's name and, where the system tells, what it can do: one name covers some with and without AMX."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", "").split()
    best = [f"({name})" for name in _MATRIX_INSTRUCTIONS if name in flags][:1]
    return " ".join([found.get("model name", platform.machine()), *best])
