"""Files in folders and in buckets: there whole or not at all."""

import io
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow")
pytest.importorskip("ray")

from atrous.cluster import places
from atrous.cluster.stamps import stamped
from atrous.errors import AtrousError

STAMP = b"0123456789abcdef" * 2


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
    content = stamped(picture(1), STAMP)
    assert not places.is_done(place, None, STAMP)
    places.write(place, content, "run")
    assert places.read(place) == content
    assert places.is_done(place, None, STAMP)
    places.write(place, content[:-1], "run")
    assert not places.is_done(place, None, STAMP)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_stamp_changes_no_pixel_and_is_found_again(tmp_path, kind):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    content, again = io.BytesIO(), tmp_path / "again"
    picture.save(content, kind)
    again.write_bytes(stamped(content.getvalue(), STAMP))
    with Image.open(again) as stamped_picture, Image.open(content) as plain:
        assert (np.asarray(stamped_picture) == np.asarray(plain)).all()
    assert places.is_done(str(again), None, STAMP)
    assert not places.is_done(str(again), None, STAMP[::-1])


def test_another_photo_and_one_that_was_changed_have_other_stamps(bucket, tmp_path, picture):
    photo, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (photo, other):
        path.write_bytes(picture(1))
    first = places.stamp_of(str(photo))
    assert first == places.stamp_of(str(photo)) != places.stamp_of(str(other))
    photo.write_bytes(picture(1) + b"more")
    assert places.stamp_of(str(photo)) != first
    assert places.stamp_of(f"{bucket}/b.jpg") != places.stamp_of(f"{bucket}/cut.png")


def test_a_file_that_is_older_than_the_run_is_not_its_own(tmp_path, picture):
    place = str(tmp_path / "mask.png")
    places.write(place, stamped(picture(1), STAMP), "run")
    time.sleep(0.02)
    places.write(str(tmp_path / "note"), b"", "run")
    since = places.written_at(str(tmp_path / "note"))
    assert not places.is_done(place, since, STAMP)
    time.sleep(0.02)
    places.write(place, stamped(picture(1), STAMP), "run")
    assert places.is_done(place, since, STAMP)


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
