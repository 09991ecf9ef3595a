"""The Lovász extension of the Jaccard loss by counting, on the CPU."""

import numpy as np
import torch
from torch import Tensor

from atrous.ops.compiled import njit
from atrous.ops.threads import split

STEPS = 1 << 17  # in which errors are told apart


def losses_and_slopes(probabilities: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """N×K×H×W probabilities and N×H×W labels to K losses, and how each rises with its class's probabilities."""
    values = probabilities.detach().contiguous().numpy()
    labels = target.contiguous().numpy()
    slopes = torch.empty(values.shape, dtype=torch.float32, device="cpu")
    losses = np.zeros(values.shape[1])
    filled = slopes.numpy()
    split(len(losses), lambda start, stop: _count_classes(values, labels, ignore_index, losses, filled, start, stop))
    return torch.from_numpy(losses.astype(np.float32)), slopes


@njit(inline="always")
def _step(error):  # type: ignore[no-untyped-def]
    """Of an error in 0..1; what is no probability has the first or the last, and reaches no further memory."""
    last = np.float32(STEPS - 1)
    return int(min(max(error * last, np.float32(0)), last))


@njit(nogil=True, cache=True, error_model="numpy")
def _count_classes(values, labels, ignored, losses, slopes, start, stop):  # type: ignore[no-untyped-def]
    """The classes start..stop."""
    images, _, height, width = values.shape
    counts, rises = np.empty((2, STEPS), np.int32), np.empty((2, STEPS), np.float32)  # of others' pixels, and its own
    for own in range(start, stop):
        counts[:] = 0
        for image in range(images):
            for y in range(height):
                for x in range(width):
                    label = labels[image, y, x]
                    if label != ignored:
                        p = values[image, own, y, x]
                        hit = label == own
                        error = np.float32(1) - p if hit else p
                        if error == error:
                            counts[int(hit), _step(error)] += 1
        _rise(counts, rises)
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
                        rise = rises[int(hit), _step(error)] if error == error else error
                        loss += error * rise
                        slope = -rise if hit else rise
                    slopes[image, own, y, x] = slope
        losses[own] = loss


@njit(nogil=True, cache=True, error_model="numpy")
def _rise(counts, rises):  # type: ignore[no-untyped-def]
    """What a pixel of each step adds to the Jaccard loss, the largest errors first.

    A pixel of the class takes from the intersection, another one adds to the union. Which comes first within a step is
    open: each kind gets the mean of its share as the first and as the last.
    """
    union = hit = float(counts[1].sum())
    for step in range(counts.shape[1] - 1, -1, -1):
        others, own = counts[0, step], counts[1, step]
        if others or own:
            wider = union + others
            rises[1, step] = 0.5 * (1 / union + 1 / wider)
            rises[0, step] = (hit - 0.5 * own) / (union * wider) if union else 1 / others
            hit -= own
            union = wider
