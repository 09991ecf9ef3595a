"""OpenMP, which torch's operators share the cores by."""

import os


def leave_cores_to_others() -> None:
    """Between two operators OpenMP's threads sleep soon instead of spinning; to be called before torch is imported.

    In training our own loops and the processes that prepare samples run there, and a core that spins is lost to them.
    What the user has set stays. It is read by GCC's OpenMP, which torch brings on Linux.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
