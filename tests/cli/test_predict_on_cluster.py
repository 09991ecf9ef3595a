"""`atrous predict --cluster ray` on two workers of this machine: the same files, whatever happens to a worker."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PHOTOS = 16


@pytest.fixture(scope="module")
def two_workers():
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)  # Ray leaves handlers of its own, in Python and below it
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    yield
    ray.shutdown()
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def many_photos(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    random = np.random.default_rng(1)
    for index in range(PHOTOS):
        blotches = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(blotches).resize((60, 40)).save(folder / f"photo {index:02}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    return folder


def test_what_is_not_installed_is_one_line(atrous, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = atrous("predict", photos, "--out", tmp_path / "out", "--cluster", "ray")
    assert result.exit_code == 2
    assert "pip install 'atrous[cluster]'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cluster", "slurm"], "--cluster 'slurm': there is one kind, ray"),
        (["--workers", "2"], "--workers goes with --cluster ray"),
    ],
)
def test_misuse_is_one_line(atrous, photos, tmp_path, flags, message):
    result = atrous("predict", photos, "--out", tmp_path / "out", *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_bucket_without_a_cluster_is_told_how(atrous, tmp_path):
    result = atrous("predict", "s3://bucket/photos", "--out", tmp_path / "out")
    assert result.stderr == "atrous: error: s3://bucket/photos: add --cluster ray, which reads buckets too\n"


def workers() -> list[int]:
    """The processes below this one that Ray has made into workers with work."""
    children: dict[int, list[int]] = {}
    named = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_text().startswith("ray::MapWorker"):
                named.add(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(entry.name))
    below, found = [os.getpid()], []
    while below:
        below += children.get(below.pop(), [])
        found += [process for process in below if process in named]
    return sorted(set(found))


def kill_one_worker(out: Path, killed: list[int]) -> None:
    """As soon as some photos are done, and many are not."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if out.is_dir() and len(list(out.glob("*.png"))) >= 2 and workers():
            killed += workers()[:1]
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds Ray's processes in /proc")
def test_a_killed_worker_costs_no_photo_and_a_second_run_only_what_is_missing(
    two_workers, atrous, many_photos, tmp_path
):
    here, spread = tmp_path / "here", tmp_path / "spread"
    scales = ["--scales", ",".join(["1.5"] * 16)]  # long enough to be killed in
    alone = atrous("predict", many_photos, "--out", here, *scales)
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_worker, args=(spread, killed))
    killer.start()
    result = atrous("predict", many_photos, "--out", spread, "--cluster", "ray", "--workers", 2, *scales)
    killer.join()
    assert killed, result.output
    assert len(list(spread.glob("*.png"))) == PHOTOS

    def contents(folder):
        files = [path for path in folder.iterdir() if path.name != ".atrous-run"]
        return {path.name: (Image.open(path).mode, np.asarray(Image.open(path)).tobytes()) for path in files}

    assert contents(spread) == contents(here)
    assert result.exit_code == alone.exit_code == 1
    told, expected = (sorted(line.split("  ")[0] for line in each.stdout.splitlines()) for each in (result, alone))
    assert told == expected
    assert len(told) == PHOTOS
    broken = f"atrous: {many_photos / 'broken.jpg'}: "
    assert [line.startswith(broken) for line in result.stderr.splitlines() if "broken" in line] == [True]

    whole = spread / "photo 00.png"
    written = whole.stat().st_mtime_ns
    (spread / "photo 01.png").unlink()
    (spread / "photo 02_overlay.jpg").write_bytes((spread / "photo 02_overlay.jpg").read_bytes()[:-1])
    again = atrous("predict", many_photos, "--out", spread, "--cluster", "ray", *scales)
    assert contents(spread) == contents(here)
    assert whole.stat().st_mtime_ns == written
    assert [line.split("  ")[0][-6:-4] for line in sorted(again.stdout.splitlines())] == ["01", "02"]
    assert f"{PHOTOS - 2} were there already, 1 failed" in again.stderr

    other = atrous("predict", many_photos, "--out", spread, "--cluster", "ray")
    assert other.exit_code == 2
    assert "another model or other options were used there" in other.stderr
    crowd = atrous("predict", many_photos, "--out", tmp_path / "crowd", "--cluster", "ray", "--workers", 3)
    assert "the cluster has 2 CPUs" in crowd.stderr
