"""What a training step is fed: augmented crops, the same for the same seed, epoch and photo."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, default_collate

from atrous.data import Augmentation
from atrous.weights import ModelCard


class EpochSampler(Sampler[int]):
    """A new order every epoch, from the seed and the epoch alone; item i of epoch e is e · n + i.

    Args:
        shares: by which photos are drawn, with repetition; None takes each photo once an epoch.

    The number carries the epoch into the data set, so that augmentation needs no state: a resumed run draws
    what an unbroken one would have drawn, with any number of workers.
    """

    def __init__(self, count: int, seed: int, shares: NDArray[np.float64] | None = None) -> None:
        self.count, self.seed, self.shares, self.epoch = count, seed, shares, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        if self.shares is None:
            order = rng.permutation(self.count)
        else:
            order = rng.choice(self.count, self.count, p=self.shares)
        return (self.epoch * self.count + int(index) for index in order)


class SharedBatches(Sampler[list[int]]):
    """One process's share of every batch: together the batches are those that one process alone would take.

    In an epoch's last batch, which may be smaller than there are processes, a share may be empty.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        self.sampler, self.rank, self.processes = sampler, rank, processes
        self.batches = BatchSampler(sampler, batch_size, drop_last=False)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch[self.rank :: self.processes] for batch in self.batches)


def make_loader(samples: Dataset[Any], batches: SharedBatches, workers: int, pin_memory: bool) -> DataLoader[Any]:
    """Batches of samples, prepared by so many processes, which stay from epoch to epoch; 0 prepares them in this one.

    Args:
        pin_memory: whether they are laid where a GPU can fetch them by itself.
    """
    return DataLoader(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        collate_fn=partial(_stacked, samples),
    )


def _stacked(samples: Dataset[Any], items: list[Any]) -> Any:
    if items:
        return default_collate(items)
    return [tensor[:0] for tensor in default_collate([samples[0]])]


Photos: TypeAlias = Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


class Samples(Dataset[tuple[Tensor, ...]], ABC):
    """Tensors by their number, as `EpochSampler` counts: the image first, then what its loss asks for."""

    @abstractmethod
    def __len__(self) -> int:
        """How many an epoch has."""


def some_images(samples: Samples, count: int = 32) -> Iterator[Tensor]:
    """At most so many of an epoch's images, spread over it."""
    return (samples[index][0] for index in range(0, len(samples), ceil(len(samples) / count)))


class TrainingCrops(Samples):
    """Items are a 3×h×w normalised float32 image and its h×w uint8 labels.

    Args:
        photos: uint8 H×W×3 and H×W pairs, such as a `CachedDataset`; they are kept.
    """

    def __init__(
        self, photos: Photos, augmentation: Augmentation, card: ModelCard, seed: int, ignore_index: int = 255
    ) -> None:
        self.pairs = photos
        self.augmentation, self.seed, self.ignore_index = augmentation, seed, ignore_index
        self.mean, self.std = (np.array(v, np.float32) * 255 for v in (card.mean, card.std))
        self.pad_colour = self.mean.round().astype(np.uint8)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        epoch, index = divmod(number, len(self.pairs))
        rng = np.random.default_rng((self.seed, epoch, index))
        image, mask = self.augmentation(*self.pairs[index], rng, self.pad_colour, self.ignore_index)
        return self.normalised(image), torch.from_numpy(mask)

    def normalised(self, image: NDArray[np.uint8]) -> Tensor:
        """uint8 H×W×3 to the network's float32 3×H×W."""
        return torch.from_numpy((image.astype(np.float32) - self.mean) / self.std).permute(2, 0, 1)
