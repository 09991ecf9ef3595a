"""What numba compiled is kept for the next process, and is that process's own whoever else keeps something."""

import subprocess
import sys

from atrous.ops.compiled import _OwnNames

THING = """
from atrous.ops.compiled import njit

@njit(cache=True)
def total(x):
    total = 0.0
    for value in x:
        total += value
    return total
"""
RUN = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import thing
print(thing.total(np.arange(5, dtype=sys.argv[2])), sum(thing.total.stats.cache_hits.values()))
"""


def run(folder, kind):
    done = subprocess.run([sys.executable, "-c", RUN, folder, kind], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_second_process_compiles_nothing_and_changed_source_leaves_nothing(tmp_path):
    (tmp_path / "thing.py").write_text(THING)
    for hits in ("0", "1"):
        for kind in ("float32", "int64"):
            assert run(tmp_path, kind) == ["10.0", hits]
    kept = {path.name for path in (tmp_path / "__pycache__").glob("*.nbc")}
    assert len(kept) == 2
    (tmp_path / "thing.py").write_text(THING + "\n# another\n")
    assert run(tmp_path, "float32") == ["10.0", "0"]
    assert len({path.name for path in (tmp_path / "__pycache__").glob("*.nbc")} - kept) == 1
    assert len(list((tmp_path / "__pycache__").glob("*.nbc"))) == 1


def test_two_processes_that_keep_something_at_a_time_get_each_its_own(tmp_path, monkeypatch):
    """With numba's own `IndexDataCacheFile` the other's call would run what is ours."""
    ours, others = (_OwnNames(str(tmp_path), "f-1.py311", "stamp") for _ in range(2))
    plain = ours._save_data

    def meanwhile(name, data):
        with monkeypatch.context() as looked_before:
            looked_before.setattr(others, "_load_index", dict)
            others.save(("int64",), "others")
        plain(name, data)

    monkeypatch.setattr(ours, "_save_data", meanwhile)
    ours.save(("float32",), "ours")
    assert others.load(("int64",)) == "others"
    assert ours.load(("float32",)) == "ours"


def test_a_full_disk_costs_another_compilation_alone(tmp_path, monkeypatch):
    cache = _OwnNames(str(tmp_path), "f-1.py311", "stamp")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_save_data", full)
    cache.save(("float32",), "ours")
    assert cache.load(("float32",)) is None
