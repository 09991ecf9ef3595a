"""What a student's step is fed: an augmented photo, and the teacher's probabilities at the same places."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atrous.data import Placement
from atrous.data.transforms import Positions
from atrous.errors import DataError
from atrous.ops import taps_at
from atrous.training.recipe import DistillRecipe
from atrous.training.samples import Samples, TrainingCrops

_STRIDE = 4  # of the points that are compared: the decoders' own


class SoftCrops(Samples):
    """Items are a 3×H×W normalised float32 image, its H×W uint8 labels, and what it is to learn, float32 K×h×w.

    The latter is the teacher's softened probabilities at points four pixels apart, times the pixel's weight; so its sum
    over the classes is the weight, 0 outside the photo. The photos that a teacher labelled come first, with labels of
    `ignore_index` alone; behind them those of a labelled data set, of which no soft label is known.

    Args:
        taught: the teacher's photos with its labels.
        soft: the files with its probabilities, one a photo.
        labelled: samples of a labelled data set.
        align_corners: the student's.
    """

    def __init__(
        self,
        taught: TrainingCrops,
        soft: Sequence[Path],
        settings: DistillRecipe,
        align_corners: bool,
        labelled: TrainingCrops | None = None,
    ) -> None:
        self.taught, self.soft, self.labelled = taught, tuple(soft), labelled
        self.settings, self.align_corners = settings, align_corners
        height, width = taught.augmentation.crop
        self.points = -(-height // _STRIDE), -(-width // _STRIDE)

    def __len__(self) -> int:
        return len(self.taught) + len(self.labelled or ())

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        epoch, index = divmod(number, len(self))
        if self.labelled is None or index < len(self.taught):
            return self._taught(epoch, index)
        image, labels = self.labelled[epoch * len(self.labelled) + index - len(self.taught)]
        return image, labels, torch.zeros(len(_read(self.soft[0])), *self.points)

    def _taught(self, epoch: int, index: int) -> tuple[Tensor, Tensor, Tensor]:
        crops = self.taught
        augment = crops.augmentation
        image, labels = crops.pairs[index]
        rng = np.random.default_rng((crops.seed, epoch, index))
        placement = augment.place(labels, rng, crops.ignore_index)
        cut = augment.taken(placement.photo(image, crops.pad_colour), rng)
        soft = sample(_read(self.soft[index]), placement, labels.shape, self.points, self.align_corners)
        void = torch.full(augment.crop, crops.ignore_index, dtype=torch.uint8)
        return crops.normalised(cut), void, soften(soft, self.settings)


def soften(probabilities: Tensor, settings: DistillRecipe) -> Tensor:
    """K×h×w probabilities, 0 throughout where there is no photo, at the recipe's temperature and times their weight.

    Temperature as in Hinton et al., 2015, section 2. The weight is the largest probability to the power `confidence`.
    """
    weight = probabilities.amax(0) ** settings.confidence * (probabilities.sum(0) > 0)
    powered = probabilities ** (1 / settings.temperature)
    return powered * (weight / powered.sum(0).clamp(min=torch.finfo(powered.dtype).tiny))


def sample(
    soft: Tensor, placement: Placement, photo: tuple[int, ...], points: tuple[int, int], align_corners: bool
) -> Tensor:
    """A photo's probabilities at points spread over a crop of it: K×h×w to float32 K×`points`; 0 outside the photo."""
    height, width = photo
    rows, columns = placement.positions((height, width), points, align_corners)
    y0, y1, wy = taps_at(_in_map(rows, height, soft.shape[1]), soft.shape[1])
    x0, x1, wx = taps_at(_in_map(columns, width, soft.shape[2]), soft.shape[2])
    strip = torch.lerp(soft[:, y0].float(), soft[:, y1].float(), wy[:, None])
    found = torch.lerp(strip[..., x0], strip[..., x1], wx)
    inside = np.logical_and.outer(_inside(rows, height), _inside(columns, width))
    return found * torch.from_numpy(inside)


def _in_map(positions: Positions, side: int, coarse: int) -> Tensor:
    return torch.from_numpy(positions * ((coarse - 1) / max(side - 1, 1)))


def _inside(positions: Positions, side: int) -> np.ndarray:
    return (positions >= -0.5) & (positions <= side - 0.5)


def _read(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path))
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}): delete it, and the teacher labels the photo anew"
        ) from error
