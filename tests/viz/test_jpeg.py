"""A JPEG from strips against one in a single piece."""

import io

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from atrous.errors import AtrousError
from atrous.viz import jpeg, strip_rows, write_jpeg


def picture(height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def in_strips(image: NDArray[np.uint8]) -> bytes:
    rows = strip_rows(image.shape[1])
    file = io.BytesIO()
    write_jpeg(file, (image[top : top + rows] for top in range(0, len(image), rows)), image.shape[:2], quality=92)
    return file.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (200, 90), (161, 160), (533, 47)])
@pytest.mark.parametrize("interval", [10, 25, 65535])
def test_the_pixels_are_those_of_a_jpeg_in_one_piece(
    size: tuple[int, int], interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg, "_MAX_INTERVAL", interval)
    image = picture(*size)
    whole = io.BytesIO()
    Image.fromarray(image).save(whole, "JPEG", quality=92, subsampling="4:2:0")
    written = in_strips(image)
    with Image.open(io.BytesIO(written)) as read, Image.open(whole) as expected:
        assert np.array_equal(np.asarray(read), np.asarray(expected))
    decoded = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR) for file in (written, whole.getvalue())]
    assert np.array_equal(*decoded), "another decoder agrees"


def test_an_ordinary_photo_is_one_strip_and_so_an_ordinary_file() -> None:
    assert strip_rows(4000) >= 3000
    image = picture(300, 400)
    whole = io.BytesIO()
    Image.fromarray(image).save(whole, "JPEG", quality=92, subsampling="4:2:0")
    assert in_strips(image) == whole.getvalue()


def test_the_widest_jpegs_strips_keep_to_the_formats_limit() -> None:
    rows = strip_rows(65500)
    assert rows % 16 == 0
    assert rows // 16 * -(-65500 // 16) <= 65535


def test_an_image_that_no_jpeg_holds_is_refused() -> None:
    with pytest.raises(AtrousError, match="PNG"):
        write_jpeg(io.BytesIO(), [], (70000, 10))
