"""What a training step is fed: augmented crops, the same for the same seed, epoch and photo."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from atrous.data import Augmentation, SegmentationFolder
from atrous.weights import ModelCard


class EpochSampler(Sampler[int]):
    """A new order every epoch, from the seed and the epoch alone; item i of epoch e is e · n + i.

    The number carries the epoch into the data set, so that augmentation needs no state: a resumed run draws
    what an unbroken one would have drawn, with any number of workers.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.count)
        return (self.epoch * self.count + int(index) for index in order)


class TrainingCrops(Dataset[tuple[Tensor, Tensor]]):
    """Items are a 3×h×w normalised float32 image and its h×w uint8 labels.

    Photos and masks are kept decoded in memory: CamVid's 367 take 250 MB.
    """

    def __init__(self, folder: SegmentationFolder, augmentation: Augmentation, card: ModelCard, seed: int) -> None:
        self.pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = [folder[i] for i in range(len(folder))]
        self.augmentation, self.seed, self.ignore_index = augmentation, seed, folder.classes.ignore_index
        self.mean, self.std = (np.array(v, np.float32) * 255 for v in (card.mean, card.std))
        self.pad_colour = self.mean.round().astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        epoch, index = divmod(number, len(self.pairs))
        rng = np.random.default_rng((self.seed, epoch, index))
        image, mask = self.augmentation(*self.pairs[index], rng, self.pad_colour, self.ignore_index)
        normalised = (image.astype(np.float32) - self.mean) / self.std
        return torch.from_numpy(normalised).permute(2, 0, 1), torch.from_numpy(mask)
