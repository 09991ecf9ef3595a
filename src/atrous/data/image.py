"""Reading photos: whatever a person has, as uint8 H×W×3 RGB, upright."""

import io
import os
import struct
from collections.abc import Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.direct import (
    TIFF_SIGNATURES,
    direct_pillow,
    direct_tiff,
    orientation_of,
    read_direct,
    upright,
)
from atrous.data.pixels import Rgb, rgb_from_pillow, rgb_from_samples
from atrous.errors import AtrousError, ImageError

ImageSource: TypeAlias = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]
"""A path, a file's bytes, a file opened in binary mode, a Pillow image, or an array."""

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".tif", ".tiff", ".gif", ".bmp",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm",
))
# fmt: on
"""The suffixes, in lower case, by which photos are found in folders."""

MAX_PIXELS = 1 << 29
"""The most pixels that an image may have, unless the caller allows more."""

# Of Pillow's formats those that photos come in. EPS, for one, would run Ghostscript on what a stranger sent.
_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM")
_READABLE = "JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP, JPEG 2000 or PNM"
_TOLERANCE = 1e-3  # by which floats may leave 0 to 1, as resampling makes them
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Rgb:
    """A photo as uint8 H×W×3, RGB, upright.

    Args:
        source: a path, a file's bytes, a file opened in binary mode, a Pillow image, or an array: H×W or
            H×W×1 (grey), H×W×3 (RGB) or H×W×4 (RGBA) of uint8, uint16, bool, or floats in 0 to 1.
        max_pixels: files and Pillow images of more pixels are refused before they are decoded.

    The EXIF orientation is applied, also to a Pillow image. Of an animation the first frame is read (of a
    Pillow image the current one). Transparency is put over white. 16-bit and other deep samples are scaled
    by the depth that their largest value needs; `atrous.data.pixels` gives the rules. CMYK is converted
    without its colour profile, and JPEG's CMYK is taken to be inverted, as Adobe writes it. Other colour
    profiles are not applied, as they are not when networks are trained.

    Peak memory for 8-bit RGB or grey JPEG and PNG files is the result's and little more, also for very
    large ones (progressive JPEGs excepted: libjpeg holds their coefficients; and ones that are not square
    and to be turned by a quarter, which takes a second array). A uint8 RGB array is returned itself, not
    copied, if it is writable and in C order.

    TIFF, WebP and GIF files that Pillow must decode have its limit as well, of 178 million pixels; plain TIFFs
    do not.

    Raises:
        ImageError: not there, not readable, not an image, cut short, too large, or an array of another
            kind. One line, which begins with the source's name.
    """
    try:
        return _read(source, max_pixels)
    except ImageError as error:
        reason = str(error)
    except MemoryError:
        reason = "does not fit into memory"
    except Image.DecompressionBombError:  # some of its decoders check it by themselves
        reason = "has more pixels than Pillow reads in this format: convert it to JPEG, PNG or TIFF"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}" if error.strerror else _damaged(error)
    except Exception as error:  # decoders meet damaged files with every kind of exception
        reason = _damaged(error)
    raise ImageError(f"{describe_source(source)}: {reason}")


def describe_source(source: object) -> str:
    """A short name for messages: the path, or what kind of thing was given."""
    if isinstance(source, (str, Path)):
        return str(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"array {'×'.join(map(str, source.shape))} {source.dtype}"
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    if isinstance(name, (str, Path)) and str(name):
        return str(name)
    if isinstance(source, Image.Image):
        return f"image {source.height}×{source.width} {source.mode}"
    return "file object" if hasattr(source, "read") else type(source).__name__


def find_images(inputs: Iterable[str | Path] | str | Path) -> list[Path]:
    """The image files that are meant by files, folders and glob patterns.

    A file is taken whatever it is called. Of a folder the files with one of `IMAGE_SUFFIXES` are taken,
    hidden ones and those in subfolders not; of what a pattern matches ("photos/*", "photos/**/*.jpg") too.

    Returns:
        Sorted within each input, each file once.

    Raises:
        AtrousError: an input that gives no file.
    """
    found: dict[str, Path] = {}
    for given in [inputs] if isinstance(inputs, (str, Path)) else inputs:
        if not str(given):
            raise AtrousError("an input is empty: give a photo, a folder or a pattern")
        try:
            paths = sorted(_matching(Path(given)))
        except OSError as error:
            raise AtrousError(f"{given}: cannot be read: {error.strerror}") from error
        if not paths:
            raise AtrousError(_nothing_found(given))
        for path in paths:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _matching(path: Path) -> Iterator[Path]:
    if path.is_dir():
        with os.scandir(path) as entries:
            yield from (path / entry.name for entry in entries if _is_image(entry.name) and _is_file(entry))
    elif path.exists():
        yield path
    elif _is_pattern(str(path)):
        matches = glob(str(path), recursive=True)
        yield from (Path(match) for match in matches if _is_image(match) and os.path.isfile(match))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself is as good as one that leads nowhere
        return False


def _is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def _is_image(name: str) -> bool:
    base, suffix = os.path.splitext(os.path.basename(name))
    return suffix.lower() in IMAGE_SUFFIXES and not base.startswith(".")


def _nothing_found(given: str | Path) -> str:
    path = Path(given)
    if path.is_dir():
        below = any(entry.is_dir() for entry in path.iterdir())
        return f"{given}: no images in this folder" + (f" (of those below it: '{path / '**' / '*'}')" if below else "")
    if _is_pattern(str(given)):
        return f"{given}: no image matches this pattern"
    return f"{given}: {_missing(given)}"


def _missing(given: str | Path) -> str:
    return "no such file" if "://" not in str(given) else "is a URL: download it first"


def _read(source: object, max_pixels: int) -> Rgb:
    if isinstance(source, np.ndarray):
        return _read_array(source)
    if isinstance(source, Image.Image):
        _check_size(source.size, max_pixels)
        source.load()
        return upright(rgb_from_pillow(source), orientation_of(source))
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            raise ImageError("is a folder, not an image; atrous.data.find_images lists those in it")
        if not path.exists():
            raise ImageError(_missing(source))
        if not path.is_file():
            raise ImageError("is not a regular file")
        with path.open("rb") as file:
            return _decode(file, path, max_pixels)
    if isinstance(source, io.TextIOBase):
        raise ImageError('was opened in text mode: open it in binary mode, "rb"')
    content = source.read() if hasattr(source, "read") else source
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise ImageError("is no image: give a path, bytes, a file object, a Pillow image or a numpy array")
    stream = io.BytesIO(content)
    return _decode(stream, stream, max_pixels)


def _decode(stream: BinaryIO, file: Path | BinaryIO, max_pixels: int) -> Rgb:
    """Reads an open file; `file` is its path if it has one, else again the stream."""
    head = stream.read(32)
    if not head:
        raise ImageError("is empty")
    direct = direct_tiff(stream) if head.startswith(TIFF_SIGNATURES) else None
    image = None
    if direct is None:
        image = _open(stream, head)
        _check_size(image.size, max_pixels)
        direct = direct_pillow(stream, image)
    else:
        _check_size(direct.size[::-1], max_pixels)
    if direct is not None:
        stored = read_direct(file, direct)
        if stored is not None:
            return upright(stored, direct.orientation)
    image = image or _open(stream, head)
    image.load()  # before the orientation is looked for: Pillow turns TIFFs itself, and PNGs may end with it
    return upright(rgb_from_pillow(image), orientation_of(image))


def _open(stream: BinaryIO, head: bytes) -> Image.Image:
    """`Image.open` for our formats and without its limit on pixels, which could only be changed for all threads."""
    Image.init()
    reason = f"is not an image that can be read ({_READABLE})"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        reason = "is a HEIC image, which cannot be read: convert it to JPEG"
    for name in _FORMATS:
        if name not in Image.OPEN:
            continue  # Pillow was built without it
        opener, accepts = Image.OPEN[name]
        accepted = accepts is None or accepts(head[:16])
        if isinstance(accepted, str) or not accepted:  # a text says why this build of Pillow cannot
            continue
        stream.seek(0)
        try:
            return opener(stream, "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            reason = _damaged(error)
    raise ImageError(reason)


def open_stored(stream: BinaryIO, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A file as Pillow opens it, not yet decoded and not upright, with our limit on pixels in place of Pillow's.

    Raises:
        ImageError: not an image of a kind that is read here, or too large.
    """
    head = stream.read(32)
    if not head:
        raise ImageError("is empty")
    image = _open(stream, head)
    _check_size(image.size, max_pixels)
    return image


def read_orientation(path: Path) -> int:
    """The EXIF orientation, 1 to 8, by which `read_image` turns a photo; above 4 it lies on its side."""
    with path.open("rb") as stream:
        if stream.read(4) in TIFF_SIGNATURES and (direct := direct_tiff(stream)):
            return direct.orientation
        stream.seek(0)
        image = open_stored(stream)
        direct = direct_pillow(stream, image)
        return direct.orientation if direct else orientation_of(image)


def _read_array(array: NDArray[Any]) -> Rgb:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        mend = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            mend = "; channels come last here: transpose(1, 2, 0)"
        raise ImageError(f"an image is an array H×W, H×W×1, H×W×3 or H×W×4{mend}")
    if array.size == 0:
        raise ImageError("has no pixels")
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
            raise ImageError(f"floats are to lie in 0 to 1, not {low:g} to {high:g}: scale them, or give uint8")
        array = array.clip(0, 1)
    elif array.dtype not in (np.bool_, np.uint8, np.uint16):
        raise ImageError("an image's values are uint8, uint16, bool, or floats in 0 to 1: use astype(np.uint8)")
    return rgb_from_samples(array)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"has {height}×{width} pixels, more than the {max_pixels:,} that are allowed "
            "(a decompression bomb?): max_pixels allows more"
        )
    if width * height == 0:
        raise ImageError("has no pixels")


def _damaged(error: BaseException) -> str:
    detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"is damaged, cut short, or of a kind that cannot be read ({detail})"
