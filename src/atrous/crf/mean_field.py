"""Probabilities in, better probabilities out: the CRF of DeepLab v1 and v2 with its two kernels."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from atrous.crf.dense import check_iterations, check_unary, dense_crf
from atrous.crf.params import CRFParams
from atrous.errors import AtrousError

_SMALL = 16  # pixels a side

ArrayOrTensor = TypeVar("ArrayOrTensor", NDArray[Any], Tensor)


def mean_field(
    unary: ArrayOrTensor,
    image: NDArray[Any] | Tensor,
    params: CRFParams | None = None,
    iterations: int = 10,
    prune: float = 0.0,
) -> ArrayOrTensor:
    """Mean-field inference in the fully connected CRF (v1, section 4.2).

    Args:
        unary: K×H×W energies, -log P, or N×K×H×W; +inf is a label that cannot be. On the CPU float32 is quickest;
            anywhere else, and in float64, torch's operators do the work.
        image: uint8 H×W×3, or N×H×W×3: as it was read, neither normalised nor in another order of colours.
        params: the kernels; the papers' for VOC if not given.
        iterations: the papers take 10.
        prune: labels that are nowhere this many times as probable as the pixel's best label are left out and get 0,
            which saves their time. With both weights together w, such a label would never have come to more than
            p = prune · exp(w · c · p), that is prune / (1 - w · c · prune) or so, where c, close to 1, is the most that
            the normalised kernels give to ones. At .01 and the papers' weights that is .011.

    Returns:
        Q, float32 of `unary`'s shape (float64 of float64), an array or a tensor as `unary` is.

    Raises:
        AtrousError: shapes that do not fit, NaN or -inf, a pixel that no label is possible for, prune outside 0..1.
    """
    given: Tensor = torch.as_tensor(unary).detach()
    images = torch.as_tensor(image)
    if given.ndim not in (3, 4) or images.shape != (*given.shape[:-3], *given.shape[-2:], 3) or not given.numel():
        shapes = f"{tuple(given.shape)} and {tuple(images.shape)}"
        raise AtrousError(f"unary and image of shapes {shapes}: they are K×H×W and H×W×3, or N of both")
    if images.dtype != torch.uint8:
        raise AtrousError(f"image is {images.dtype}: give the uint8 pixels as they were read")
    if not 0 <= prune < 1:
        raise AtrousError(f"prune={prune:g} is out of range: give 0 for none, less than 1")
    check_iterations(iterations)
    dtype = torch.float64 if given.dtype == torch.float64 else torch.float32
    batch = given.to(dtype).reshape(-1, *given.shape[-3:])
    images = images.reshape(-1, *images.shape[-3:]).to(batch.device)
    with torch.no_grad():
        infer = _on_cpu if batch.device.type == "cpu" and dtype == torch.float32 else _anywhere
        result = infer(batch, images, params or CRFParams(), iterations, prune).view(given.shape)
    return result.numpy() if isinstance(unary, np.ndarray) else result


def prepare(params: CRFParams | None = None, device: torch.device | str = "cpu") -> None:
    """Makes the CPU's loops ready, which the first inference would wait for: they are compiled once a machine, in 8 s.

    Args:
        params: those of the inference to come.
        device: where that will be; there is nothing to do on others.
    """
    if torch.device(device).type != "cpu":
        return
    random = np.random.default_rng(0)
    unary = random.random((2, _SMALL, _SMALL), dtype=np.float32)
    mean_field(unary, random.integers(0, 256, (_SMALL, _SMALL, 3), np.uint8), params, prune=0.01)


def _on_cpu(batch: Tensor, images: Tensor, params: CRFParams, iterations: int, prune: float) -> Tensor:
    from atrous.crf import mean_field_cpu

    height, width = batch.shape[-2:]
    keys = mean_field_cpu.bilateral_keys(height, width, params)
    if keys is None:
        return _anywhere(batch, images, params, iterations, prune)
    out = torch.zeros_like(batch, memory_format=torch.contiguous_format)
    for unary, image, q in zip(batch.contiguous(), images.contiguous(), out, strict=True):
        least = mean_field_cpu.least_excess(unary.numpy())
        if np.isnan(least).any():
            check_unary(unary[None])
        kept = np.flatnonzero(least <= _excess(prune))
        mean_field_cpu.infer(unary.numpy(), image.numpy(), params, keys, iterations, kept, q.numpy())
    return out


def _anywhere(batch: Tensor, images: Tensor, params: CRFParams, iterations: int, prune: float) -> Tensor:
    check_unary(batch)
    excess = (batch - batch.amin(1, keepdim=True)).amin((0, 2, 3))
    kept = (excess <= _excess(prune)).nonzero()[:, 0]
    out = torch.zeros_like(batch)
    out[:, kept] = dense_crf(batch[:, kept], images, params).infer(iterations)
    return out


def _excess(prune: float) -> float:
    """By how much a label's energy must exceed the best one's everywhere to be left out."""
    return float("inf") if prune == 0 else -float(np.log(prune))
