"""Files in folders and in buckets: there whole or not at all."""

import time

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("ray")

from atrous.cluster import places
from atrous.errors import AtrousError


def test_a_bucket_lists_the_photos_of_one_folder(bucket, picture):
    assert places.list_photos(bucket) == [f"{bucket}/{name}" for name in ("a 1%20.png", "b.jpg", "cut.png")]
    assert places.list_photos(f"{bucket}/b.jpg") == [f"{bucket}/b.jpg"]
    assert places.read(f"{bucket}/a 1%20.png") == picture(1)


@pytest.mark.parametrize("place", ["memory://photos/none", "warp://photos/in"])
def test_an_address_without_photos_is_one_line(bucket, place):
    with pytest.raises(AtrousError, match=r"^(memory|warp)://photos/") as refused:
        places.list_photos(place)
    assert "\n" not in str(refused.value)


def test_a_file_address_is_told_to_be_a_path(tmp_path):
    with pytest.raises(AtrousError, match="give a folder of this machine as a path"):
        places.list_photos(f"file://{tmp_path}")


@pytest.mark.parametrize("out", ["memory://photos/out", "{tmp}/new/out"])
def test_what_is_written_is_whole_and_a_cut_copy_is_not(bucket, tmp_path, out, picture):
    place = out.format(tmp=tmp_path) + "/mask 1%.png"
    assert not places.is_whole(place, None)
    places.write(place, picture(1), "run")
    assert places.read(place) == picture(1)
    assert places.is_whole(place, None)
    places.write(place, picture(1)[:-1], "run")
    assert not places.is_whole(place, None)


def test_a_file_that_is_older_than_the_run_is_not_its_own(tmp_path, picture):
    place = str(tmp_path / "mask.png")
    places.write(place, picture(1), "run")
    time.sleep(0.02)
    places.write(str(tmp_path / "note"), b"", "run")
    since = places.written_at(str(tmp_path / "note"))
    assert not places.is_whole(place, since)
    time.sleep(0.02)
    places.write(place, picture(1), "run")
    assert places.is_whole(place, since)


def test_sweeping_takes_this_runs_unfinished_files_alone(tmp_path):
    for name in (".run-1", ".other-1", "run-1"):
        (tmp_path / name).write_bytes(b"half")
    places.sweep(str(tmp_path), "run")
    assert {path.name for path in tmp_path.iterdir()} == {".other-1", "run-1"}


def test_a_write_that_fails_leaves_nothing(tmp_path, picture):
    (tmp_path / "mask.png").mkdir()
    with pytest.raises(OSError, match=r"mask\.png"):
        places.write(str(tmp_path / "mask.png"), picture(1), "run")
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]
