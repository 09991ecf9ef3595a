"""Files that cannot be read are refused in one line, and bombs before they are decoded."""

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from photos import PHOTO, encoded, exif, farthest, png_chunk
from PIL import Image

from atrous.data import direct, read_image
from atrous.data.image import MAX_PIXELS
from atrous.errors import ImageError


@pytest.mark.parametrize("share", [0.03, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM", "JPEG2000", "AVIF"])
def test_a_file_that_was_cut_short_is_refused(kind: str, share: float, tmp_path: Path, both_ways: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    file = encoded(Image.fromarray(noise), kind)
    path = tmp_path / "cut.img"
    path.write_bytes(file[: int(len(file) * share)])
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_large_jpeg_with_a_thumbnail_that_was_cut_short_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LARGE_PIXELS", 1)
    thumbnail = encoded(Image.fromarray(PHOTO[::4, ::4]), "JPEG")
    whole = encoded(Image.fromarray(PHOTO), "JPEG", exif=b"Exif\0\0" + thumbnail)
    cut = whole[:-200]
    assert b"\xff\xd9" in cut
    with pytest.raises(ImageError, match="cut short"):
        read_image(cut)
    assert farthest(read_image(whole + b"a phone's video" * 99), read_image(whole)) == 0


def test_a_jpegs_end_is_found_wherever_it_was_cut() -> None:
    whole = encoded(Image.fromarray(PHOTO), "JPEG", progressive=True, exif=exif(1))
    assert direct._jpeg_ends(io.BytesIO(whole))
    assert not any(direct._jpeg_ends(io.BytesIO(whole[:length])) for length in range(len(whole)))


def test_a_large_png_with_damaged_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LARGE_PIXELS", 1)
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    file = bytearray(encoded(Image.fromarray(noise), "PNG"))
    file[len(file) // 2] ^= 0xFF
    with pytest.raises(ImageError):
        read_image(bytes(file))


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path) -> None:
    files = {
        "empty.jpg": b"",
        "text.png": b"not an image\n" * 9,
        "short.jpg": b"\xff\xd8\xff\xe0",
        "zeros.tif": bytes(99),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="is empty"):
        read_image(b"")
    with pytest.raises(ImageError, match="HEIC"):
        read_image(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="URL"):
        read_image("https://example.org/photo.jpg")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="text mode"):
        read_image(io.StringIO("text"))  # type: ignore[arg-type]
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with (tmp_path / "x.jpg").open(encoding="utf-8") as file, pytest.raises(ImageError, match="text mode"):
        read_image(file)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="numpy array"):
        read_image(42)  # type: ignore[arg-type]


def test_postscript_is_never_run() -> None:
    with pytest.raises(ImageError, match="not an image"):
        read_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(Image.fromarray(PHOTO), "PNG"))

    def refuse(*_: object) -> None:  # as chmod(0) does, but to root as well
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value) == f"{path}: cannot be read: Permission denied"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_a_pipe_that_nobody_fills_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.jpg")


def header_only_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return direct.PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"x" * 60) + png_chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_our_limit_alone() -> None:
    side = 23171  # the square of which is the first above the limit
    assert (side - 1) ** 2 <= MAX_PIXELS < side**2
    with pytest.raises(ImageError, match="536,870,912 that are allowed"):
        read_image(header_only_png(side, side))
    with pytest.raises(ImageError, match="100 that are allowed"):
        read_image(encoded(Image.fromarray(PHOTO), "JPEG"), max_pixels=100)
    with pytest.raises(ImageError, match="100 that are allowed"):
        read_image(Image.fromarray(PHOTO), max_pixels=100)
    tiff = encoded(Image.fromarray(PHOTO), "TIFF")
    with pytest.raises(ImageError, match="100 that are allowed"):
        read_image(tiff, max_pixels=100)


def test_pillows_own_limit_neither_fires_nor_changes(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, both_ways: bool
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns from 500 and refuses from 1,000 on
    for kind in ("PNG", "JPEG", "BMP", "TIFF")[: 4 if both_ways else 3]:
        assert farthest(read_image(encoded(Image.fromarray(PHOTO), kind, quality=95)), PHOTO) <= 12
    assert not recwarn
    assert Image.MAX_IMAGE_PIXELS == 500
    with pytest.raises(ImageError, match="convert it to JPEG, PNG or TIFF"):
        read_image(encoded(Image.fromarray(PHOTO), "TIFF", compression="lzma"))


def test_what_opencv_refuses_is_read_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "LARGE_PIXELS", 1)

    def refuse(*_: object) -> None:
        raise cv2.error("too many pixels")

    file = encoded(Image.fromarray(PHOTO), "PNG")
    monkeypatch.setattr(cv2, "imread", refuse)
    assert np.array_equal(read_image(file), PHOTO)
    monkeypatch.setattr(cv2, "imread", lambda *_: None)
    assert np.array_equal(read_image(file), PHOTO)
