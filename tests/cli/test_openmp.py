"""What training asks of OpenMP, in time for torch to hear it."""

import os
import subprocess
import sys

import pytest

from atrous.cli.openmp import leave_cores_to_others


@pytest.mark.parametrize("set_by_user", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_what_the_user_has_set_stays(monkeypatch, set_by_user):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(set_by_user, "7")
    leave_cores_to_others()
    assert os.environ.get("GOMP_SPINCOUNT") == ("7" if set_by_user == "GOMP_SPINCOUNT" else None)
    assert os.environ[set_by_user] == "7"


def test_the_commands_that_ask_have_not_brought_torch():
    script = "import atrous.cli.train, atrous.cli.distill, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
