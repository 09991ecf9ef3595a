"""The Lovász extension of the Jaccard loss by counting, on the CPU."""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from atrous.ops.threads import split

STEPS = 1 << 17  # in which errors are told apart


def losses_and_slopes(probabilities: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """N×K×H×W probabilities and N×H×W labels to K losses, and how each rises with its class's probabilities."""
    values = probabilities.detach().contiguous().numpy()
    labels = target.contiguous().numpy()
    slopes = torch.empty(values.shape)
    losses = np.zeros(values.shape[1])
    filled = slopes.numpy()
    split(len(losses), lambda start, stop: _count_classes(values, labels, ignore_index, losses, filled, start, stop))
    return torch.from_numpy(losses.astype(np.float32)), slopes


@njit(nogil=True, cache=True, error_model="numpy")
def _count_classes(values, labels, ignored, losses, slopes, start, stop):  # type: ignore[no-untyped-def]
    """The classes start..stop."""
    images, _, height, width = values.shape
    counts, hits, rises = np.empty(STEPS, np.int32), np.empty(STEPS, np.int32), np.empty(STEPS, np.float32)
    last = np.float32(STEPS - 1)
    for own in range(start, stop):
        counts[:] = 0
        hits[:] = 0
        for image in range(images):
            for y in range(height):
                for x in range(width):
                    label = labels[image, y, x]
                    if label != ignored:
                        p = values[image, own, y, x]
                        hit = label == own
                        error = np.float32(1) - p if hit else p
                        if error == error:
                            step = int(error * last)
                            counts[step] += 1
                            hits[step] += hit
        _rise(counts, hits, rises)
        loss = 0.0
        for image in range(images):
            for y in range(height):
                for x in range(width):
                    label = labels[image, y, x]
                    slope = np.float32(0)
                    if label != ignored:
                        p = values[image, own, y, x]
                        hit = label == own
                        error = np.float32(1) - p if hit else p
                        # What is not a number stays one, and has no step.
                        rise = rises[int(error * last)] if error == error else error
                        loss += error * rise
                        slope = -rise if hit else rise
                    slopes[image, own, y, x] = slope
        losses[own] = loss


@njit(nogil=True, cache=True, error_model="numpy")
def _rise(counts, hits, rises):  # type: ignore[no-untyped-def]
    """What a pixel of each step adds to the Jaccard loss, the largest errors first."""
    truth, missed, wrong, before = hits.sum(), 0, 0, 0.0
    for step in range(len(counts) - 1, -1, -1):
        if counts[step]:
            missed += hits[step]
            wrong += counts[step] - hits[step]
            jaccard = 1 - (truth - missed) / (truth + wrong)
            rises[step] = (jaccard - before) / counts[step]
            before = jaccard
