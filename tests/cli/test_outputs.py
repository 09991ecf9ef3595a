"""Names of outputs: none on another, none on an input, and the simplest that will do."""

import os
from pathlib import Path

import pytest

from atrous.cli.outputs import find_photos, plan_outputs
from atrous.errors import AtrousError


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Plans masks into out/ for files that are made first; gives the planned files."""
    monkeypatch.chdir(tmp_path)

    def plan(files: list[str], arguments: list[str], out: str = "out") -> list[str]:
        for file in files:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_bytes(b"x")
        photos, failures = find_photos(arguments)
        assert not failures
        return [str(files["mask"]) for files in plan_outputs(photos, Path(out), ["mask"])]

    return plan


def test_a_name_is_enough_where_it_is_the_only_one(planned) -> None:
    files = ["one/x.jpg", "two/y.jpg", "z.png"]
    assert planned(files, files) == ["out/x.png", "out/y.png", "out/z.png"]


def test_a_glob_keeps_the_folders_below_its_fixed_part(planned) -> None:
    files = ["p/a/x.jpg", "p/b/c/y.jpg"]
    assert planned(files, ["p/**/*.jpg"]) == ["out/a/x.png", "out/b/c/y.png"]
    assert planned(files, [os.path.abspath("p") + "/**/*.jpg"]) == ["out/a/x.png", "out/b/c/y.png"]


def test_equal_names_keep_their_folders(planned) -> None:
    files = ["p/monday/x.jpg", "p/tuesday/x.jpg", "p/y.jpg"]
    assert planned(files, files) == ["out/monday/x.png", "out/tuesday/x.png", "out/y.png"]
    assert planned(files, ["p/monday", "p/tuesday"]) == ["out/monday/x.png", "out/tuesday/x.png"]


def test_names_that_differ_in_case_alone_are_equal(planned) -> None:
    files = ["one/x.jpg", "two/X.jpg"]
    assert planned(files, files) == ["out/one/x.png", "out/two/X.png"]


def test_names_that_differ_in_their_suffix_alone_keep_it(planned) -> None:
    files = ["x.jpg", "x.png", "y.jpg"]
    assert planned(files, files) == ["out/x.jpg.png", "out/x.png.png", "out/y.png"]


def test_dots_in_a_name_are_part_of_it(planned) -> None:
    files = ["2024.05.01.jpg", "2024.05.02.jpg"]
    assert planned(files, files) == ["out/2024.05.01.png", "out/2024.05.02.png"]


def test_no_two_outputs_are_one_file_even_if_names_conspire(planned) -> None:
    files = ["x.jpg", "x.png", "x.jpg.bmp"]
    with pytest.raises(AtrousError, match="would be written for two inputs"):
        planned(files, files)


@pytest.mark.parametrize("out", [".", "link", "../photos"])
def test_an_input_is_never_written_over(tmp_path, monkeypatch, out) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "x.png").write_bytes(b"x")
    (folder / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    photos, _ = find_photos(["x.png"])
    with pytest.raises(AtrousError, match="is an input and would be written over: give another --out"):
        plan_outputs(photos, Path(out), ["mask"])
    # The overlay's name is another, so that it may lie beside the photo.
    assert plan_outputs(photos, Path(out), ["overlay"]) == [{"overlay": Path(out) / "x_overlay.jpg"}]


def test_an_argument_without_photos_is_told_and_the_rest_found(tmp_path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    photos, failures = find_photos([str(tmp_path / "gone.jpg"), str(tmp_path)])
    assert [photo.path for photo in photos] == [tmp_path / "x.png"]
    assert len(failures) == 1
    assert "gone.jpg" in failures[0]


def test_a_folder_in_a_files_place_is_refused(planned) -> None:
    Path("out/x.png").mkdir(parents=True)
    with pytest.raises(AtrousError, match=r"out/x\.png: is a folder, where a file would be written"):
        planned(["x.jpg"], ["x.jpg"])


@pytest.mark.skipif(os.name == "nt", reason="POSIX's")
def test_a_pipe_and_a_link_to_itself_spoil_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    photos, _ = find_photos(["pipe"])
    assert plan_outputs(photos, Path("out"), ["mask"]) == [{"mask": Path("out/pipe.png")}]
    Path("folder").mkdir()
    Path("folder/x.jpg").write_bytes(b"x")
    Path("folder/loop.jpg").symlink_to("loop.jpg")
    photos, failures = find_photos(["folder"])
    assert [photo.path for photo in photos] == [Path("folder/x.jpg")]
    assert not failures
