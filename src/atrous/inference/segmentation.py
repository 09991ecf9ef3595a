"""What a prediction gives: labels with their photo, and every form in which a person wants them."""

import os
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data import ImageSource, describe_source
from atrous.data.image import open_stored
from atrous.errors import AtrousError, ImageError
from atrous.files import replacing
from atrous.inference.polygons import coco, find_regions, geojson
from atrous.viz import overlay, overlay_strips, strip_rows, write_jpeg
from atrous.weights import label_colours

_JPEG_QUALITY = 92
_COUNTED_AT_ONCE = 1 << 22  # OpenCV counts in float32, which is exact below 1 << 24
_MASK_SUFFIXES = (".png",)
_OVERLAY_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Failure:
    """Stands in a list of results for a source that could not be predicted. False in a condition.

    Attributes:
        source: what was given.
        message: one line that names it and what is wrong with it.
    """

    source: ImageSource
    message: str

    def __bool__(self) -> Literal[False]:
        return False

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """A photo and the class of each of its pixels.

    Attributes:
        image: uint8 H×W×3, RGB, upright: the photo as it was read.
        labels: uint8 H×W, indices into `classes`.
        classes: K names.
        palette: a colour (red, green, blue), 0 to 255, for each class.
        source: the photo's file, if it was one.
        probabilities: float32 K×H×W, if they were asked for; `scores()` gives them or says how to.

    Raises:
        AtrousError: arrays that do not go together.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    source: Path | None = None
    probabilities: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        size = self.labels.shape
        if self.image.shape != (*size, 3) or self.image.dtype != np.uint8 or self.labels.dtype != np.uint8:
            raise AtrousError(
                "a segmentation needs a uint8 H×W×3 image and uint8 H×W labels, not "
                f"{describe_source(self.image)} and {describe_source(self.labels)}"
            )
        if len(self.palette) != len(self.classes):
            raise AtrousError(f"{len(self.classes)} classes need as many colours, not {len(self.palette)}")
        if self.probabilities is not None and self.probabilities.shape != (len(self.classes), *size):
            raise AtrousError(f"probabilities are {(len(self.classes), *size)} here, not {self.probabilities.shape}")

    def __bool__(self) -> Literal[True]:
        return True

    def __repr__(self) -> str:
        height, width = self.labels.shape
        return f"Segmentation({self.source or 'array'}, {height}×{width}, {len(self.classes)} classes)"

    def areas(self) -> dict[str, float]:
        """Each class that is present, with its share of the pixels (0 to 1), largest first."""
        counts = np.zeros(256, dtype=np.int64)
        rows = max(1, _COUNTED_AT_ONCE // max(1, self.labels.shape[1]))
        for top in range(0, len(self.labels), rows):
            strip = cv2.calcHist([self.labels[top : top + rows]], [0], None, [256], [0, 256])
            counts += strip.ravel().astype(np.int64)
        shares: dict[str, float] = {}
        for index in np.argsort(-counts, kind="stable"):
            if counts[index] and index < len(self.classes):
                name = self.classes[index]
                shares[name] = shares.get(name, 0.0) + float(counts[index] / self.labels.size)
        return shares

    def scores(self) -> NDArray[np.float32]:
        """float32 K×H×W: the probability of each class at each pixel; they sum to 1 over the classes.

        Raises:
            AtrousError: they were not kept.
        """
        if self.probabilities is None:
            raise AtrousError("the scores were not kept: ask for them with predictor(..., scores=True)")
        return self.probabilities

    def overlay(self, alpha: float = 0.5) -> Image.Image:
        """The photo with the classes' colours over it, as an RGB image; `alpha` is the colours' share, 0 to 1."""
        return Image.fromarray(overlay(self.image, self.labels, self.palette, alpha))

    def mask(self) -> Image.Image:
        """The labels as a palette image (mode "P"): its pixel values are the class indices.

        The palette has 256 entries, of which those past the classes are VOC's, so that every tool reads
        the indices as 8 bits.
        """
        colours = label_colours(256)
        colours[: len(self.palette)] = self.palette
        image = Image.fromarray(self.labels)
        image.putpalette(colours.tobytes())
        return image

    def polygons(self, format: Literal["coco", "geojson"] = "coco", *, min_area: int = 1) -> dict[str, Any]:
        """The labels as polygons, ready for `json.dump`.

        One for each region, that is for each set of pixels of one class that are connected by their edges.
        Outlines follow the edges of the pixels: the pixel in column x, row y is the square from (x, y) to
        (x + 1, y + 1), and what has its centre inside a polygon is exactly what has its label.

        Args:
            format: "coco": a COCO data set of this one image. `category_id` is the index in `classes`, `area`
                is in pixels, `bbox` is [left, top, width, height]. COCO's polygons cannot have holes, so a
                region that has some is cut along pixel columns into pieces that have none: its
                `segmentation` lists more than one polygon, which together cover exactly its pixels.
                "geojson": a FeatureCollection of Polygon features in pixel coordinates, y downwards, each
                with its outer ring and its holes, closed, and the properties class, class_id and area.
                The outer ring's signed area is positive when x and y are taken as they are.
            min_area: smaller regions are left out, in pixels.

        Raises:
            AtrousError: a format that is not one of these.
        """
        if format not in ("coco", "geojson"):
            raise AtrousError(f"polygons are written as coco or geojson, not {format!r}")
        cut = format == "coco"
        regions = find_regions(self.labels, len(self.classes), min_area, cut)
        if cut:
            file_name = self.source.name if self.source else ""
            return coco(regions, self.classes, (self.labels.shape[0], self.labels.shape[1]), file_name)
        return geojson(regions, self.classes)

    def save(
        self,
        path: str | Path,
        kind: Literal["mask", "overlay", "both"] = "mask",
        *,
        alpha: float = 0.5,
    ) -> list[Path]:
        """Writes the mask, the overlay or both; an existing file is replaced once the new one is whole.

        Args:
            path: a file (`out/photo.png`: a mask is a PNG, an overlay a PNG or JPEG); or a stem, as it always
                is with "both" (`out/photo`, for `out/photo.png` the mask and `out/photo_overlay.jpg`); or a
                folder, which is there already or ends in "/", whose files are named after the source
                ("image" if it was no file). Folders that are not there are made.
            kind: what is written.
            alpha: the colours' share in the overlay, 0 to 1.

        Returns:
            The files that were written, the mask first.

        Raises:
            AtrousError: a suffix that cannot hold what is asked for, a path where nothing can be written,
                or one that would replace the photo itself or, by a mask, another one.
        """
        if kind not in ("mask", "overlay", "both"):
            raise AtrousError(f"what is saved is mask, overlay or both, not {kind!r}")
        if not 0 <= alpha <= 1:
            raise AtrousError(f"alpha is the colour's share, from 0 to 1: {alpha} was given")
        mask, overlaid = self._targets(path, kind)
        written = [target for target in (mask, overlaid) if target]
        for target in written:
            if self.source and target.exists() and self.source.exists() and target.samefile(self.source):
                raise AtrousError(f"{target}: would replace the photo itself; name another file or folder")
        if mask and _is_photo(mask):
            raise AtrousError(f"{mask}: is there and is no mask, perhaps another photo; name another file or folder")
        if mask:
            with replacing(mask) as unfinished, unfinished.open("wb") as file:
                self.write(file)
        if overlaid:
            with replacing(overlaid) as unfinished, unfinished.open("wb") as file:
                self._write_overlay(file, overlaid.suffix.lower(), alpha)
        return written

    def write(self, file: BinaryIO, kind: Literal["mask", "overlay"] = "mask") -> None:
        """Writes what `save` would put into a mask's PNG or an overlay's JPEG to a file that is open."""
        if kind == "mask":
            # Labels come in runs: looking for nothing else takes a third of the time, and files a sixth larger.
            self.mask().save(file, "PNG", compress_type=zlib.Z_RLE)
        else:
            self._write_overlay(file, ".jpg", 0.5)

    def _targets(self, path: str | Path, kind: str) -> tuple[Path | None, Path | None]:
        """The files for the mask and for the overlay."""
        target = Path(path)
        suffix = target.suffix.lower()
        if target.is_dir() or str(path).endswith(("/", os.sep)):
            stem = target / (self.source.stem if self.source else "image")
        elif kind == "both":
            stem = target.with_suffix("") if suffix in _OVERLAY_SUFFIXES else target
        elif not suffix:
            stem = target
        elif kind == "mask":
            if suffix not in _MASK_SUFFIXES:
                raise AtrousError(f"{target}: a mask is saved as .png: {suffix} may not keep the class indices")
            return target, None
        else:
            if suffix not in _OVERLAY_SUFFIXES:
                raise AtrousError(f"{target}: an overlay is saved as .jpg, .jpeg or .png, not {suffix}")
            return None, target
        # The stem may itself have a dot, which with_suffix would take for a suffix.
        return (
            stem.with_name(f"{stem.name}.png") if kind != "overlay" else None,
            stem.with_name(f"{stem.name}_overlay.jpg") if kind != "mask" else None,
        )

    def _write_overlay(self, file: BinaryIO, suffix: str, alpha: float) -> None:
        if suffix == ".png":
            self.overlay(alpha).save(file, "PNG", compress_level=1)
            return
        height, width = self.labels.shape
        strips = overlay_strips(self.image, self.labels, self.palette, alpha, strip_rows(width))
        write_jpeg(file, strips, (height, width), quality=_JPEG_QUALITY)


def is_photo(file: BinaryIO) -> bool:
    """Whether a file is an image without a palette, which masks have."""
    try:
        with open_stored(file, max_pixels=sys.maxsize) as found:
            return found.mode != "P"
    except (OSError, ImageError):  # no image
        return False


def _is_photo(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_photo(file)
    except OSError:  # nothing there
        return False
