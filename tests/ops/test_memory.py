"""Memory that is freed and asked for again."""

import platform
import subprocess
import sys

import pytest

_COUNT = """
import resource, threading, torch
from atrous.ops.memory import keep_freed_memory
keep_freed_memory()

def count():
    for megabytes in (64, 60):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(megabytes << 18)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

{}
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone is told")
@pytest.mark.parametrize("calling", ["count()", "threading.Thread(target=count).start()"])
def test_pages_are_asked_for_once(calling: str):
    """64 MB are 16,384 pages; a second tensor, a little smaller for the block to hold it surely, finds its own."""
    code = _COUNT.format(calling)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert second < first / 10
