"""Where the pixels along a side lie between coarse samples."""

from typing import Any, Generic, NamedTuple, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

Values = TypeVar("Values")  # Tensor, or NDArray on the CPU


class Taps(NamedTuple, Generic[Values]):
    """For each pixel along a side: the coarse sample below it, the one above, and the latter's weight."""

    lower: Values
    upper: Values
    weight: Values


def taps_at(position: Tensor, coarse: int) -> Taps[Tensor]:
    """The taps of pixels at these places, counted in samples from the first of `coarse`; the float32 weights."""
    position = position.clamp(0, coarse - 1)
    lower = position.floor().long()
    return Taps(lower, (lower + 1).clamp(max=coarse - 1), (position - lower).float())


def bilinear_taps(size: int, coarse: int, align_corners: bool, device: torch.device) -> Taps[Tensor]:
    """The taps of `size` pixels over `coarse` samples, as `torch.nn.functional.interpolate` places them in float32."""
    position = torch.arange(size, device=device, dtype=torch.float32)
    if align_corners:
        position *= (coarse - 1) / (size - 1) if size > 1 else 0.0
    else:
        position = (position + 0.5) * (coarse / size) - 0.5
    return taps_at(position, coarse)


def arrays(taps: Taps[Tensor]) -> Taps[NDArray[Any]]:
    """The same on the CPU for numba."""
    return Taps(*(each.contiguous().numpy() for each in taps))
