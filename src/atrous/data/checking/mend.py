"""A mended copy of a data set, as far as the mend is mechanical."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.checking.findings import Report
from atrous.data.checking.labels import black_and_white, counted_from_one, named_classes
from atrous.data.checking.look import Look
from atrous.data.classes import FILE, Classes, named
from atrous.data.dataset import SegmentationDataset
from atrous.data.direct import upright
from atrous.data.image import read_orientation
from atrous.data.layouts.folder import WHOLE
from atrous.data.layouts.layout import Layout
from atrous.data.masks import PictureMasks, read_picture
from atrous.data.opening import recognise
from atrous.errors import AtrousError, DataError
from atrous.files import scratch_beside

Array = NDArray[np.uint8]
Progress = Callable[[int, int], None]

_HOPELESS = ("missing-mask", "unreadable-photo", "unreadable-mask", "unknown-colours", "shared-colour", "resampled")


def mend_dataset(report: Report, out: str | Path, progress: Progress | None = None) -> list[str]:
    """Writes a data set as `images/<split>/`, `masks/<split>/` and `classes.json` with what is sound or can be mended.

    One without splits becomes plain `images/` and `masks/`.

    Colours become indices, 0 and 255 become 0 and 1, classes that count from 1 count from 0, masks are turned with
    their photos or brought to their size with nearest neighbour. Photos are copied as they are.

    Args:
        out: a new folder; it appears whole or not at all.
        progress: called with (done, total) after each photo.

    Returns:
        A line for each photo that is left out, with the reason.

    Raises:
        AtrousError: `out` is there already, cannot be written, or would be empty.
    """
    out = Path(out)
    if out.exists():
        raise AtrousError(f"{out}: is there already; give a folder that is to be made")
    try:
        with scratch_beside(out) as partial:
            left_out = _write(report, partial, progress)
            if len(left_out) == sum(split.photos for split in report.splits.values()):
                raise AtrousError(f"{out}: not written, as every photo would be left out; {'; '.join(left_out[:1])}")
            partial.rename(out)
    except OSError as error:
        raise AtrousError(f"{out}: cannot be written: {error.strerror or error}") from error
    return left_out


@dataclass(frozen=True)
class _Mender:
    classes: Classes
    white_is_one: bool
    from_one: bool

    def labels(self, dataset: SegmentationDataset, look: Look) -> Array:
        """The mended label map.

        Raises:
            DataError: there is no way to mend it that needs no judgement.
        """
        reader = dataset.read_mask
        if hopeless := next((kind for kind in _HOPELESS if kind in look.problems and not self.white_is_one), None):
            raise DataError(look.problems[hopeless])
        labels = self._picture(reader, look) if isinstance(reader, PictureMasks) else reader(look.image, look.mask)
        if look.size is not None and labels.shape != look.size:
            labels = self._fitted(labels, look)
        allowed = (labels < len(self.classes.names)) | (labels == self.classes.ignore_index)
        if not allowed.all():
            raise DataError(f"{look.mask}: holds the label {labels[~allowed].max()}, which no class has")
        return labels.astype(np.uint8)

    def _picture(self, reader: PictureMasks, look: Look) -> Array:
        picture = read_picture(look.mask)
        of_indices = "indices-as-colours" in look.problems
        if of_indices:
            picture = picture[..., 0]
        if picture.ndim == 3:
            if "stray-colours" in look.problems:
                return _nearest_classes(reader, picture)
            return reader(look.image, look.mask)
        if picture.min(initial=0) < 0:
            raise DataError(f"{look.mask}: holds the label {picture.min()}; labels begin at 0")
        if self.white_is_one:
            return (picture > 127).astype(np.uint8)
        if picture.max(initial=0) > 255:
            raise DataError(f"{look.mask}: holds the label {picture.max()}; labels end at 255")
        if self.from_one:
            void = picture == self.classes.ignore_index
            return np.where(void, picture, picture - 1).astype(np.uint8)
        return np.asarray(picture) if of_indices else reader(look.image, look.mask)

    def _fitted(self, labels: Array, look: Look) -> Array:
        assert look.size is not None
        if "turned-mask" in look.problems:
            return upright(np.ascontiguousarray(labels), read_orientation(look.image))
        height, width = look.size
        if abs(labels.shape[0] * width - labels.shape[1] * height) > max(labels.shape[0] * 2, labels.shape[1] * 2):
            raise DataError(f"{look.mask}: has other proportions than its photo")
        return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _nearest_classes(reader: PictureMasks, picture: Array) -> Array:
    """Each pixel's class by the nearest of the colours that mean one."""
    known = reader.known_colours()
    colours, labels = np.array(list(known), np.int32), np.array(list(known.values()), np.uint8)
    distances = np.stack([np.square(picture.astype(np.int32) - colour).sum(axis=2) for colour in colours])
    nearest: Array = labels[distances.argmin(axis=0)]
    return nearest


def _write(report: Report, out: Path, progress: Progress | None) -> list[str]:
    layout: Layout = recognise(report.root)
    datasets = {split: layout.open(report.root, split) for split in report.splits}
    mender = _mender(report)
    (out / FILE).write_text(mender.classes.to_json(), encoding="utf-8")
    places = {split: "" if datasets.keys() == {WHOLE} else split for split in datasets}
    work = [(dataset, places[split], look) for split, dataset in datasets.items() for look in report.looks[split]]
    for split in datasets:
        for kind in ("images", "masks"):
            (out / kind / places[split]).mkdir(parents=True)
    left_out = []
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="atrous-mend") as pool:
        for done, reason in enumerate(pool.map(lambda job: _mend_one(mender, out, *job), work), 1):
            if reason:
                left_out.append(reason)
            if progress:
                progress(done, len(work))
    return left_out


def _mender(report: Report) -> _Mender:
    kinds = {finding.kind for finding in report.findings}
    classes = replace(report.classes, void_colours=())
    known = named_classes(report.root, classes)
    white_is_one = "black-and-white" in kinds and black_and_white(report.looks, known)
    if white_is_one and not known:
        classes = named(("background", "foreground"), report.root)
    from_one = "labels-beyond" in kinds and counted_from_one(report.looks, len(classes.names))
    return _Mender(classes, white_is_one, from_one)


def _mend_one(mender: _Mender, out: Path, dataset: SegmentationDataset, place: str, look: Look) -> str:
    """Writes a pair; a line if it had to be left out."""
    if "missing-mask" in look.problems:
        return f"{look.image}: left out: it has no mask"
    target = out / "masks" / place / f"{look.image.stem}.png"
    try:
        labels = mender.labels(dataset, look)
        if target.exists():
            raise DataError("another photo has its name")
    except AtrousError as error:
        return f"{look.image}: left out: {error}"
    picture = Image.fromarray(labels, "P")
    colours = [value for colour in mender.classes.palette for value in colour]
    # All 256: of a shorter palette Pillow writes 4 bits a pixel, and 255 becomes 15.
    picture.putpalette(colours + [0] * (768 - len(colours)))
    picture.save(target)
    shutil.copyfile(look.image, out / "images" / place / look.image.name)
    return ""
