"""From photos to labels, and probabilities if they are asked for: whole, averaged over views, or in tiles."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.crf import CRFParams, mean_field, parse_crf, unary_from_probabilities
from atrous.errors import AtrousError
from atrous.inference.averaging import average_photos
from atrous.inference.network import Image, Network
from atrous.inference.tiles import Tile, plan_tiles, tile_side
from atrous.ops import upsample_argmax

Probabilities: TypeAlias = NDArray[np.float32]
Progress: TypeAlias = Callable[[float], None]

_BATCH_PIXELS = 1 << 23  # 8 million pixels go through the network together at most, whatever the batch size
_ALONE_PIXELS = 1 << 20  # a photo with a larger view has all of torch's threads for itself,
_ALONE_FLOATS = 1 << 24  # and so has one of which more probabilities are kept (64 MB)
_LARGEST_SCALE = 8.0
_PRUNE = 0.01  # labels that are nowhere a hundredth as probable as the best one do not take part in the CRF


class Keywords(TypedDict, total=False):
    """The keyword arguments of `Predictor.__call__`, which documents them."""

    scales: Sequence[float]
    flip: bool
    tile: int | None
    scores: bool
    batch_size: int
    crf: bool | str | Path | CRFParams


@dataclass(frozen=True)
class Options:
    """How to predict: the values of `Keywords`, known to be possible."""

    scales: Sequence[float] = (1.0,)
    flip: bool = False
    tile: int | None = None
    scores: bool = False
    batch_size: int = 8
    crf: bool | str | Path | CRFParams = False

    def __post_init__(self) -> None:
        self._refuse_kinds()
        if len(self.scales) == 0:
            raise AtrousError("scales is empty: give at least one, e.g. scales=(1.0,)")
        for scale in self.scales:
            if not (math.isfinite(scale) and 0 < scale <= _LARGEST_SCALE):
                raise AtrousError(f"scale {scale:g} is out of range: give more than 0, at most {_LARGEST_SCALE:g}")
        if self.batch_size < 1:
            raise AtrousError(f"batch_size={self.batch_size} is not a number of photos: give 1 or more")
        tile_side(self.tile, 1, 1)  # refuses a tile that is too small before any photo is read
        _ = self.crf_params  # and a CRF that is not there

    def _refuse_kinds(self) -> None:
        """Of values that are not of their kind; callers without a type checker find out here."""
        scales: Any = self.scales
        if isinstance(scales, str) or not isinstance(scales, Iterable):
            raise AtrousError(f"scales={scales!r}: give numbers in a tuple, e.g. scales=(0.5, 1.0)")
        scales = tuple(scales)
        object.__setattr__(self, "scales", scales)  # a generator has been used up
        wrong = [scale for scale in scales if not isinstance(scale, Real)]
        if wrong:
            raise AtrousError(f"scales: {wrong[0]!r} is no number")
        numbers: dict[str, Any] = {"tile": self.tile, "batch_size": self.batch_size}
        for name, value in numbers.items():
            if not isinstance(value, Integral) and (value is not None or name == "batch_size"):
                raise AtrousError(f"{name}={value!r}: give a whole number")
        crf: Any = self.crf
        if not isinstance(crf, bool | str | Path | CRFParams):
            raise AtrousError(f"crf={crf!r}: give True, a name, a YAML file or CRFParams")

    @cached_property
    def crf_params(self) -> CRFParams | None:
        """The CRF that refines the probabilities, if one is to."""
        if isinstance(self.crf, str | Path):
            return parse_crf(str(self.crf))
        return CRFParams() if self.crf is True else self.crf or None

    @property
    def full_size(self) -> bool:
        """Whether full-size probabilities are kept, if only until the CRF has seen them."""
        return self.scores or self.crf_params is not None

    @property
    def averaged(self) -> bool:
        """Whether full-size probabilities are needed; if not, labels come straight from the coarse logits."""
        return self.full_size or self.flip or tuple(self.scales) != (1.0,)


@dataclass(frozen=True)
class Labelled:
    """uint8 H×W labels, and float32 K×H×W probabilities if they were asked for."""

    labels: Image
    probabilities: Probabilities | None


def _no_autocast(kind: str) -> AbstractContextManager[object]:
    """An engine computes in what it says, whatever the caller has set for a training beside it."""
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


class Labelling:
    """Labels photos with one network in one way."""

    def __init__(self, network: Network, options: Options) -> None:
        self._network = network
        self._options = options

    def kind(self, photo: Image) -> object:
        """Photos of equal kind can go through the network together."""
        height, width, _ = photo.shape
        return (height, width) if self._options.averaged else self._network.padded(height, width)

    def together(self, photo: Image) -> int:
        """How many photos like this one go through the network together."""
        height, width, _ = photo.shape
        if self._network.one_by_one or tile_side(self._options.tile, height, width):
            return 1
        return int(max(1, min(self._options.batch_size, _BATCH_PIXELS // (height * width))))

    def alone(self, photo: Image) -> bool:
        """Whether nothing is to be predicted beside this one: it is large, or not the CPU's."""
        height, width, _ = photo.shape
        largest = max(1.0, *self._options.scales) ** 2 * height * width
        kept = self._network.model.num_classes * height * width if self._options.full_size else 0
        return not self._network.one_by_one or largest > _ALONE_PIXELS or kept > _ALONE_FLOATS

    def label(self, photos: Sequence[Image], progress: Progress) -> list[Labelled | AtrousError]:
        """Labels photos of one kind, as many as `together` says; one too large for memory fails alone.

        Args:
            photos: uint8 H×W×3 RGB; they are only read.
            progress: called with the share of a photo that is done, 1.0 in all for each.
        """
        try:
            with torch.inference_mode(), _no_autocast(self._network.device.type):
                height, width, _ = photos[0].shape
                side = tile_side(self._options.tile, height, width)
                labelled = [self._in_tiles(photos[0], side, progress)] if side else self._whole(photos)
                refined = [self._refined(*each) for each in zip(photos, labelled, strict=True)]
                if not side:
                    progress(float(len(photos)))
                return [*refined]
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
        # Out of the handler: the error's traceback holds the tensors that are in the way.
        if len(photos) > 1:
            return [outcome for photo in photos for outcome in self.label([photo], progress)]
        progress(1.0)
        mend = "scores=False" if self._options.scores else "a smaller tile, e.g. tile=513"
        mend = "crf=False" if self._options.crf_params else mend
        where = f"memory of {self._network.device} for {width} × {height} pixels"
        return [AtrousError(f"too little {where}: give {mend}")]

    def _whole(self, photos: Sequence[Image]) -> list[Labelled]:
        if self._options.averaged:
            return self._averaged(photos)
        height = max(photo.shape[0] for photo in photos)
        width = max(photo.shape[1] for photo in photos)
        network = self._network
        size = network.padded(height, width)
        logits = network.of_photos(photos, size)
        labels = upsample_argmax(logits, size, network.model.align_corners, crop=(height, width)).cpu().numpy()
        return [
            Labelled(of_one[: photo.shape[0], : photo.shape[1]].copy(), None)
            for of_one, photo in zip(labels, photos, strict=True)
        ]

    def _averaged(self, photos: Sequence[Image]) -> list[Labelled]:
        options = self._options
        labels, probabilities = average_photos(self._network, photos, options.scales, options.flip, options.full_size)
        return [
            Labelled(of_one, None if probabilities is None else probabilities[index].cpu().numpy())
            for index, of_one in enumerate(labels.cpu().numpy())
        ]

    def _refined(self, photo: Image, labelled: Labelled) -> Labelled:
        """What the CRF makes of a whole photo, if there is to be one."""
        params = self._options.crf_params
        if params is None or labelled.probabilities is None:
            return labelled
        unary = unary_from_probabilities(torch.from_numpy(labelled.probabilities).to(self._network.device))
        q = mean_field(unary, torch.from_numpy(np.ascontiguousarray(photo)), params, prune=_PRUNE)
        labels = q.max(0).indices.to(torch.uint8)  # torch's argmax takes ten times as long on the CPU
        return Labelled(labels.cpu().numpy(), q.cpu().numpy() if self._options.scores else None)

    def _in_tiles(self, photo: Image, side: int, progress: Progress) -> Labelled:
        height, width, _ = photo.shape
        result = self._empty(height, width)
        model = self._network.model
        tiles = plan_tiles(height, width, side, model.output_stride, model.extra_pixels)
        for group in self._groups(photo, tiles):
            for tile, labelled in zip(group, self._whole([photo[tile.seen] for tile in group]), strict=True):
                result.labels[tile.kept] = labelled.labels[tile.kept_of_seen]
                if result.probabilities is not None and labelled.probabilities is not None:
                    result.probabilities[:, *tile.kept] = labelled.probabilities[:, *tile.kept_of_seen]
            progress(len(group) / len(tiles))
        return result

    def _groups(self, photo: Image, tiles: Sequence[Tile]) -> Iterator[list[Tile]]:
        """Tiles that go through the network together."""
        group: list[Tile] = []
        for tile in tiles:
            if group and self.kind(photo[tile.seen]) != self.kind(photo[group[0].seen]):
                yield group
                group = []
            group.append(tile)
            if len(group) >= self.together(photo[tile.seen]):
                yield group
                group = []
        if group:
            yield group

    def _empty(self, height: int, width: int) -> Labelled:
        classes = self._network.model.num_classes
        probabilities = np.empty((classes, height, width), dtype=np.float32) if self._options.full_size else None
        return Labelled(np.empty((height, width), dtype=np.uint8), probabilities)


def _out_of_memory(error: BaseException) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
