"""Every kind of file that a person may have, read as a viewer shows it."""

import io
import os
import struct
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from photos import PHOTO, Pixels, encoded, exif, farthest, make_photo, png, png_chunk
from PIL import Image, ImageCms

from atrous.data import IMAGE_SUFFIXES, direct, read_image
from atrous.errors import ImageError

# Where the pixels come from


def test_a_path_bytes_a_file_an_image_and_an_array_give_the_same(tmp_path: Path, both_ways: bool) -> None:
    path = tmp_path / "foto ünï.png"
    Image.fromarray(PHOTO).save(path)
    with path.open("rb") as file:
        read = [read_image(str(path)), read_image(path), read_image(path.read_bytes()), read_image(file)]
    with Image.open(path) as image:
        read.append(read_image(image))
    read.append(read_image(PHOTO))
    for pixels_read in read:
        assert pixels_read.dtype == np.uint8
        assert np.array_equal(pixels_read, PHOTO)
        assert pixels_read.flags.writeable
        assert pixels_read.flags.c_contiguous


def test_a_file_that_cannot_seek_is_read() -> None:
    reading, writing = os.pipe()
    content = encoded(Image.fromarray(PHOTO), "PNG")
    thread = threading.Thread(target=lambda: Path(f"/dev/fd/{writing}").write_bytes(content))
    thread.start()
    thread.join()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert np.array_equal(read_image(pipe), PHOTO)


# Formats


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "WEBP", "JPEG2000"])
def test_lossless_formats_come_back_exactly(kind: str, both_ways: bool) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(read_image(encoded(Image.fromarray(PHOTO), kind, **options)), PHOTO)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_tiff_compressions_come_back_as_they_should(compression: str, mode: str, both_ways: bool) -> None:
    image = Image.fromarray(PHOTO).convert(mode)
    read = read_image(encoded(image, "TIFF", compression=compression))
    assert farthest(read, np.asarray(image.convert("RGB"))) <= (12 if compression == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_back_closely(kind: str, both_ways: bool) -> None:
    assert farthest(read_image(encoded(Image.fromarray(PHOTO), kind, quality=95)), PHOTO) <= 12


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_read_directly_equal_pillows(
    mode: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encoded(Image.fromarray(PHOTO).convert(mode), "JPEG", **options)
    ordinary = read_image(file)
    monkeypatch.setattr(direct, "LARGE_PIXELS", 1)
    assert farthest(read_image(file), ordinary) <= 1


def test_one_bit_and_grey_are_read_as_shown(both_ways: bool) -> None:
    grey = Image.fromarray(PHOTO).convert("L")
    bit = grey.convert("1")
    for image in (grey, bit):
        read = read_image(encoded(image, "PNG"))
        assert np.array_equal(read, np.asarray(image.convert("RGB")))
    assert set(np.unique(read)) == {0, 255}


def test_transparency_is_put_over_white(both_ways: bool) -> None:
    alpha = np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[:20] = 0
    alpha[20:40] = 51  # a fifth
    expected = PHOTO.copy()
    expected[:20] = 255
    expected[20:40] = np.rint(255 - (255 - PHOTO[20:40].astype(float)) / 5)
    rgba = np.dstack((PHOTO, alpha))
    assert farthest(read_image(rgba), expected) == 0
    assert farthest(read_image(encoded(Image.fromarray(rgba), "PNG")), expected) == 0

    la = Image.fromarray(rgba).convert("LA")
    grey = np.asarray(la)[..., 0].astype(float)
    expected_grey = np.rint(255 - (255 - grey) * alpha / 255)
    assert farthest(read_image(encoded(la, "PNG")), np.dstack([expected_grey] * 3)) == 0


def test_a_palette_is_looked_up_and_its_transparency_put_over_white(both_ways: bool) -> None:
    indices = np.arange(60, dtype=np.uint8).reshape(6, 10) % 4
    palette = np.array([(10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(read_image(encoded(image, kind)), palette[indices]), kind
    for kind in ("PNG", "GIF"):
        shown = palette[indices]
        shown[indices == 1] = 255
        assert np.array_equal(read_image(encoded(image, kind, transparency=1)), shown), kind
    half = read_image(encoded(image, "PNG", transparency=bytes((255, 255, 51, 255))))
    assert half[indices == 2][0].tolist() == [204, 244, 204]


def test_one_transparent_colour_of_an_rgb_png_is_white(both_ways: bool) -> None:
    rows = PHOTO.copy()
    rows[5:9] = (1, 2, 3)
    shown = rows.copy()
    shown[5:9] = 255
    key = png_chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))
    assert np.array_equal(read_image(png(rows, 2, key)), shown)
    deep = png(rows.astype(np.uint16) * 257, 2, png_chunk(b"tRNS", struct.pack(">HHH", 257, 514, 771)))
    assert np.array_equal(read_image(deep), shown)


def test_cmyk_is_read_inverted_from_jpeg_and_plain_from_tiff(both_ways: bool) -> None:
    # Cyan ink alone shows as cyan, no ink as white. Pillow writes JPEG's CMYK as Adobe does, inverted.
    inks = np.zeros((32, 48, 4), np.uint8)
    inks[:, 24:, 0] = 255
    image = Image.fromarray(inks, "CMYK")
    jpeg = encoded(image, "JPEG", quality=95)
    assert b"Adobe" in jpeg
    for file in (jpeg, encoded(image, "TIFF")):
        read = read_image(file)
        assert farthest(read[:, :16], np.full((32, 16, 3), 255)) <= 8
        assert farthest(read[:, 32:], np.broadcast_to((0, 255, 255), (32, 16, 3))) <= 8
    stored = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert farthest(read_image(jpeg), stored) <= 2


def test_ycbcr_lab_and_hsv_images_are_converted() -> None:
    image = Image.fromarray(PHOTO)
    muted = Image.fromarray(60 + PHOTO // 2)  # 8-bit LAB keeps pure colours badly
    assert farthest(read_image(image.convert("YCbCr")), PHOTO) <= 3
    assert farthest(read_image(image.convert("HSV")), PHOTO) <= 8
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(muted, to_lab)
    assert lab is not None
    assert np.abs(read_image(lab) - np.asarray(muted, dtype=int)).mean() < 1.5


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation_is_read(kind: str, both_ways: bool) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert getattr(Image.open(io.BytesIO(file)), "n_frames", 1) == 3
    read = read_image(file)
    assert farthest(read, np.broadcast_to((200, 0, 0), (30, 40, 3))) <= 4


# More than 8 bits


@pytest.mark.parametrize(("depth", "largest"), [(8, 200), (10, 1000), (12, 4000), (14, 16000), (16, 65535)])
@pytest.mark.parametrize("kind", ["grey png", "rgb png", "rgba png", "grey tiff", "rgb tiff", "array"])
def test_deep_samples_are_scaled_by_the_depth_that_they_use(kind: str, depth: int, largest: int) -> None:
    samples = np.rint(make_photo(40, 50) / 255.0 * largest).astype(np.uint16)
    samples[0, 0] = largest
    if kind.startswith("grey"):
        samples = samples[..., 0]
    expected = np.rint(samples * (255 / (2**depth - 1))).astype(np.uint8)
    if kind == "array":
        read = read_image(samples)
    elif kind == "rgba png":
        read = read_image(png(np.dstack((samples, np.full(samples.shape[:2], 65535, np.uint16))), 6))
    else:
        bgr = samples if samples.ndim == 2 else samples[..., ::-1]
        suffix = ".png" if kind.endswith("png") else ".tif"
        read = read_image(cv2.imencode(suffix, bgr)[1].tobytes())
    if samples.ndim == 2:
        expected = np.dstack([expected] * 3)
    assert np.array_equal(read, expected)
    assert read.max() >= 190, "a photo that fills its sensor's range comes out bright"


def test_sixteen_bits_divide_by_257_and_grey_with_alpha_is_put_over_white() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(read_image(values)[..., 1], np.rint(values / 257).astype(np.uint8))
    grey_alpha = np.dstack((np.full((9, 9), 65535 // 5), np.full((9, 9), 65535 // 5))).astype(np.uint16)
    assert np.unique(read_image(png(grey_alpha, 4))).tolist() == [214]  # 255 - (255 - 51) / 5


def test_float_tiffs_are_read_by_their_range() -> None:
    ramp = np.linspace(0, 1, 50 * 40, dtype=np.float32).reshape(40, 50)

    def read(values: NDArray[np.float32]) -> Pixels:
        return read_image(cv2.imencode(".tif", values)[1].tobytes())

    expected = np.rint(ramp * 255)
    assert farthest(read(ramp)[..., 0], expected) <= 1
    assert farthest(read(np.dstack((ramp, ramp * 0, ramp))), np.dstack((expected, expected * 0, expected))) <= 1
    assert farthest(read(np.rint(ramp * 255))[..., 0], expected) == 0  # whole numbers
    assert farthest(read(np.rint(ramp * 4095))[..., 0], expected) <= 1
    assert farthest(read(ramp * 300.5 - 100)[..., 0], expected) <= 1  # all else is stretched
    with_holes = ramp.copy()
    with_holes[3, 4], with_holes[5, 6] = np.nan, np.inf
    shown = read(with_holes)
    assert shown[3, 4].tolist() == [0, 0, 0]
    assert shown[5, 6].tolist() == [255, 255, 255]
    assert farthest(shown[10:, :, 0], expected[10:]) <= 1


def test_thirty_two_bit_integers_are_stretched_and_narrow_ones_scaled() -> None:
    ramp = np.arange(2000, dtype=np.int32).reshape(40, 50)
    wide = read_image(cv2.imencode(".tif", ramp * 100000 - 50)[1].tobytes())[..., 0]
    assert farthest(wide, np.rint(ramp * (255 / 1999))) == 0
    narrow = read_image(Image.fromarray(ramp))[..., 0]
    assert farthest(narrow, np.rint(ramp * (255 / 4095))) == 0  # 1,999 takes more than 10 bits, so 12


# Arrays


def test_arrays_of_every_documented_kind() -> None:
    grey = PHOTO[..., 0]
    in_colour = np.dstack([grey] * 3)
    assert np.array_equal(read_image(grey), in_colour)
    assert np.array_equal(read_image(grey[..., None]), in_colour)
    assert np.array_equal(read_image(grey > 99), np.where(in_colour > 99, 255, 0))
    for dtype in (np.float16, np.float32, np.float64):
        assert farthest(read_image((PHOTO / 255).astype(dtype)), PHOTO) <= (dtype == np.float16)
    assert np.array_equal(read_image(np.asfortranarray(PHOTO)), PHOTO)
    assert np.array_equal(read_image(PHOTO.astype(">u2") * 257), PHOTO)
    assert read_image(np.ones((4, 5, 3), np.float32) + np.float32(1e-6)).min() == 255  # resampling overshoots


def test_an_array_that_needs_nothing_is_not_copied_and_a_read_only_one_is() -> None:
    assert read_image(PHOTO) is PHOTO
    frozen = PHOTO.copy()
    frozen.flags.writeable = False
    assert read_image(frozen).flags.writeable


@pytest.mark.parametrize(
    ("array", "mend"),
    [
        (PHOTO.astype(np.int64), "astype"),
        (PHOTO.astype(np.float32), "0 to 1"),
        (np.full((4, 4), np.nan), "0 to 1"),
        (PHOTO.transpose(2, 0, 1), "transpose"),
        (np.zeros((5, 5, 2), np.uint8), "H×W×3"),
        (np.zeros((2, 5, 5, 3), np.uint8), "H×W×3"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.array([["a"]]), "uint8"),
        (np.zeros((4, 4, 3), complex), "uint8"),
    ],
)
def test_other_arrays_are_refused_with_the_mend(array: NDArray[np.generic], mend: str) -> None:
    with pytest.raises(ImageError, match=mend) as caught:
        read_image(array)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("array ")


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("size", [(61, 90), (64, 64)], ids=["oblong", "square"])
def test_the_exif_orientation_is_undone(kind: str, orientation: int, size: tuple[int, int], both_ways: bool) -> None:
    upright = make_photo(*size)
    turns = {  # how the stored pixels come to be from the upright ones: the inverse of the EXIF standard's table
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation]))
    options = {"quality": 95, "lossless": True} if kind in ("JPEG", "WEBP") else {}
    file = encoded(stored, kind, exif=exif(orientation), **options)
    assert farthest(read_image(file), upright) <= (12 if kind == "JPEG" else 0)
    assert farthest(read_image(Image.open(io.BytesIO(file))), upright) <= (12 if kind == "JPEG" else 0)


def test_an_orientation_after_a_pngs_pixels_is_found(both_ways: bool) -> None:
    block = exif(3).tobytes()
    chunk = png_chunk(b"eXIf", block.removeprefix(b"Exif\0\0"))
    turned = PHOTO[::-1, ::-1]
    assert np.array_equal(read_image(png(turned, 2, after=chunk)), PHOTO)
    assert np.array_equal(read_image(png(turned.astype(np.uint16) * 257, 2, after=chunk)), PHOTO)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "block", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0"]
)
def test_a_broken_orientation_is_as_good_as_none(block: bytes, both_ways: bool) -> None:
    file = encoded(Image.fromarray(PHOTO), "JPEG", quality=95, exif=block)
    assert farthest(read_image(file), PHOTO) <= 12


def test_every_suffix_that_is_looked_for_can_be_read() -> None:
    Image.init()
    for suffix in IMAGE_SUFFIXES - {".mpo", ".jpx"}:
        kind = Image.registered_extensions()[suffix]
        image = Image.fromarray(PHOTO).convert({".pbm": "1", ".pgm": "L"}.get(suffix, "RGB"))
        assert read_image(encoded(image, kind)).shape == PHOTO.shape, suffix


# Large files and threads


def test_large_files_are_read_into_the_result_itself(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    side = 6000  # 108 MB of pixels
    path = tmp_path / "large.jpg"
    cv2.imwrite(str(path), cv2.resize(PHOTO, (side, side)))
    script = (
        "import resource, sys; from atrous.data import read_image; read_image(sys.argv[2]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "image = read_image(sys.argv[1]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, image.nbytes)"
    )
    del resource
    small = tmp_path / "small.jpg"
    Image.fromarray(PHOTO).save(small)
    result = subprocess.run([sys.executable, "-c", script, path, small], capture_output=True, text=True, check=True)
    grown, size = (int(number) for number in result.stdout.split())
    grown *= 1 if sys.platform == "darwin" else 1024
    assert grown < 1.25 * size


def test_reading_in_threads_gives_what_reading_in_turn_gives(tmp_path: Path) -> None:
    files = []
    for index in range(24):
        files.append(tmp_path / f"{index}.{('png', 'jpg', 'tif', 'webp')[index % 4]}")
        Image.fromarray(np.roll(PHOTO, index, axis=1)).save(files[-1])
    with ThreadPoolExecutor(8) as pool:
        for file, read in zip(files, pool.map(read_image, files), strict=True):
            assert np.array_equal(read, read_image(file))
