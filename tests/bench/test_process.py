"""What a contestant's process tells of itself."""

import subprocess
import sys

import numpy as np
import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="where a process begins with the peak of the one that started it")
def test_the_peak_is_the_processes_own_and_not_its_parents():
    ballast = np.ones(256 << 20, np.uint8)
    code = (
        "from atrous.bench.process import _peak; before = _peak('cpu')\n"
        "import numpy as np; held = np.ones(64 << 20, np.uint8); print(before, _peak('cpu'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before < ballast.nbytes / 2
    assert 60 << 20 < after - before < 80 << 20


def test_a_peers_process_holds_nothing_of_ours():
    code = "import sys, atrous.bench.process, atrous.bench.peers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
