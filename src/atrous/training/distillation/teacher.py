"""What a teacher says of photos, kept on disk: labels for every pixel, and their probabilities at every eighth."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.data import Classes, SegmentationDataset
from atrous.data.masks import PictureMasks
from atrous.errors import AtrousError, ImageError
from atrous.files import replacing
from atrous.inference import Failure, Predictor

_STRIDE = 8  # of the kept probabilities: the networks' own are at 16 and are bilinear between


@dataclass(frozen=True)
class TaughtPhotos:
    """Photos with a teacher's labels.

    Attributes:
        images: the photos.
        labels: for each a PNG of the teacher's labels, H×W.
        soft: for each a file of its probabilities, float16 K×h×w; the outer ones are the photo's corner pixels'.
        classes: the teacher's.
    """

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    soft: tuple[Path, ...]
    classes: Classes

    def dataset(self, root: Path, name: str) -> SegmentationDataset:
        """The photos with the labels as if they were the truth."""
        pairs = zip(self.images, self.labels, strict=True)
        return SegmentationDataset(root, name, "a teacher's labels", self.classes, pairs, PictureMasks(self.classes))


def teach(
    teacher: Predictor,
    photos: Sequence[Path],
    folder: str | Path,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TaughtPhotos:
    """Has photos labelled, those of them that are not labelled yet.

    A photo's files are named after it and its content, in a folder named after the teacher's weights and the options:
    what has changed is labelled anew, and a run that was stopped goes on where it was.

    Args:
        folder: where the labels are kept.
        scales, flip: how the teacher sees each photo, as for `Predictor`; the probabilities are averaged.
        progress: called with (done, total) after each photo.

    Raises:
        ImageError: a photo that cannot be read.
        AtrousError: a file cannot be written, or an impossible option.
    """
    classes = Classes(teacher.card.classes, teacher.card.palette)
    place = Path(folder) / _fingerprint(teacher, scales, flip)
    stems = [place / f"{photo.stem}-{_content(photo)}" for photo in photos]
    labels = [stem.with_name(f"{stem.name}.png") for stem in stems]
    soft = [stem.with_name(f"{stem.name}.npy") for stem in stems]
    missing = [index for index in range(len(photos)) if not (labels[index].is_file() and soft[index].is_file())]
    results = teacher.stream([photos[index] for index in missing], scales=scales, flip=flip, scores=True)
    for done, (index, result) in enumerate(zip(missing, results, strict=True), len(photos) - len(missing) + 1):
        if isinstance(result, Failure):
            raise ImageError(f"{result.message}: take it out of the photos")
        with replacing(labels[index]) as unfinished_labels, replacing(soft[index]) as unfinished_soft:
            result.mask().save(unfinished_labels)
            np.save(unfinished_soft, _coarse(torch.from_numpy(result.scores())).numpy())
        if progress:
            progress(done, len(photos))
    return TaughtPhotos(tuple(photos), tuple(labels), tuple(soft), classes)


def _coarse(probabilities: Tensor) -> Tensor:
    """K×H×W at about every eighth pixel, corner pixels kept."""
    size = [-(-(side - 1) // _STRIDE) + 1 for side in probabilities.shape[-2:]]
    sampled = F.interpolate(probabilities[None], size, mode="bilinear", align_corners=True)
    return sampled[0].half()


def _fingerprint(teacher: Predictor, scales: Sequence[float], flip: bool) -> str:
    """Of all that the labels depend on beside the photo."""
    card = teacher.card
    settings = [teacher.model.config, card.classes, card.mean, card.std, list(scales), flip, _STRIDE]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, tensor in teacher.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _content(photo: Path) -> str:
    try:
        return hashlib.sha256(photo.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise AtrousError(f"{photo}: cannot be read: {error.strerror}") from error
