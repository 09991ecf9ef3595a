"""What files, folders and patterns mean, and how sources are called in messages."""

import io
from pathlib import Path

import pytest
from photos import PHOTO
from PIL import Image

from atrous.data import describe_source, find_images
from atrous.errors import AtrousError


def test_sources_are_described_briefly(tmp_path: Path) -> None:
    assert describe_source("photo.jpg") == "photo.jpg"
    assert describe_source(Path("a/b.png")) == str(Path("a/b.png"))
    assert describe_source(b"12345") == "5 bytes"
    assert describe_source(PHOTO) == "array 61×90×3 uint8"
    assert describe_source(Image.fromarray(PHOTO)) == "image 61×90 RGB"
    assert describe_source(io.BytesIO()) == "file object"
    with (tmp_path / "x.png").open("wb") as file:
        assert describe_source(file) == str(tmp_path / "x.png")


def test_images_are_found_in_files_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "sub/c.webp", "sub/deep/d.tif", "[1].png", "odd.xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*given: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path / one for one in given)]

    assert names("") == ["[1].png", "a.png", "b.JPG"]
    assert names("b.JPG", "") == ["b.JPG", "[1].png", "a.png"], "each once, in the order of the inputs"
    assert names("sub/../a.png", "a.png") == ["sub/../a.png"]
    assert names("*") == ["[1].png", "a.png", "b.JPG"]
    assert names("**/*") == ["[1].png", "a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tif"]
    assert names("*.png", "sub") == ["[1].png", "a.png", "sub/c.webp"]
    assert names("[1].png") == ["[1].png"], "a file's name comes before a pattern"
    assert names("odd.xyz") == ["odd.xyz"], "a file that is named is taken whatever it is called"
    assert find_images(str(tmp_path / "a.png")) == [tmp_path / "a.png"]


def test_an_input_that_gives_nothing_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given, reason in (("none.jpg", "no such file"), ("*.gif", "pattern"), ("empty", "no images")):
        with pytest.raises(AtrousError, match=reason) as caught:
            find_images([tmp_path / given])
        assert str(tmp_path / given) in str(caught.value)
