"""A model as the rest of the room uses it: uint8 photos in, coarse logits out."""

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from atrous.inference.engines import LiveEngine
from atrous.inference.engines.quantised import to_steps
from atrous.models import SegmentationModel
from atrous.weights.quantisation import INPUT, Quantisation

Image = NDArray[np.uint8]


class Network:
    """A model on a device, with the normalisation that it was trained with.

    Args:
        model: moved to the device and put in evaluation mode, in place.
        mean, std: of RGB values in 0..1.
        engine: what computes the coarse logits, one of `atrous.inference.engines.ENGINES`.
        quantisation: the card's.
    """

    def __init__(
        self,
        model: SegmentationModel,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        engine: str = "torch",
        quantisation: Quantisation | None = None,
    ) -> None:
        self.engine = LiveEngine(engine, model, device, quantisation)
        self.device = device
        # oneDNN's convolutions are fastest when channels come last.
        self._layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        model.to(device=device, memory_format=self._layout)  # type: ignore[call-overload]
        self.model = model.eval()
        scale = 1 / np.asarray(std, dtype=np.float64)
        self._steps = quantisation.activations.get(INPUT) if quantisation else None
        self._scale, self._offset = (scale / 255).astype(np.float32), (-np.asarray(mean) * scale).astype(np.float32)

    @property
    def one_by_one(self) -> bool:
        """Whether photos of a batch go through the model one at a time.

        On the CPU they do: oneDNN picks its kernels by the batch's size, and they differ in the last bits. So
        a photo's labels are the same whatever lies beside it, and it costs no time.
        """
        return self.device.type == "cpu"

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """The size to pad a photo to: k·output_stride, and 1 more where the model wants that for its corners.

        The coarse logits then lie at the same places of a photo whatever its size.
        """
        return self._padded_side(height), self._padded_side(width)

    def _padded_side(self, side: int) -> int:
        stride, extra = self.model.output_stride, self.model.extra_pixels
        return -(-(side - extra) // stride) * stride + extra

    def normalise(self, photos: Sequence[Image], size: tuple[int, int]) -> Tensor:
        """uint8 H×W×3 photos to float32 N×3×`size`, on the network's device.

        Photos lie in the top left corner; the rest is zero, which is the mean colour.
        """
        batch = np.empty((len(photos), *size, 3), dtype=np.float32)
        for slot, photo in zip(batch, photos, strict=True):
            if "numba" in sys.modules:  # quicker, but nothing that a first photo waits for
                from atrous.ops.normalise_cpu import normalise

                normalise(photo, self._scale, self._offset, slot)
            else:
                _look_up(photo, self._table(), slot)
            _fill_around(photo, 0, slot)
        return torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2).contiguous(memory_format=self._layout)

    def of_photos(self, photos: Sequence[Image], size: tuple[int, int]) -> Tensor:
        """The coarse logits of what `normalise` gives."""
        if self._steps and self.engine.takes_steps(*size):
            return self.coarse_logits(self._in_steps(photos, size, *self._steps))
        return self.coarse_logits(self.normalise(photos, size))

    def _in_steps(self, photos: Sequence[Image], size: tuple[int, int], step: float, zero_point: int) -> Tensor:
        """What `normalise` gives, in uint8 steps."""
        batch = np.empty((len(photos), *size, 3), dtype=np.uint8)
        for slot, photo in zip(batch, photos, strict=True):
            height, width, _ = photo.shape
            if self._is_in_steps:
                slot[:height, :width] = photo
            elif "numba" in sys.modules:
                from atrous.ops.normalise_cpu import normalise_to_steps

                normalise_to_steps(photo, self._scale, self._offset, step, zero_point, slot)
            else:
                _look_up(photo, self._table_of_steps(step, zero_point), slot)
            _fill_around(photo, zero_point, slot)
        return torch.from_numpy(batch).permute(0, 3, 1, 2)

    @cached_property
    def _is_in_steps(self) -> bool:
        """Whether photos' bytes are the steps themselves, as for Google's quantised models."""
        return self._steps is not None and bool(
            (self._table_of_steps(*self._steps) == np.arange(256, dtype=np.uint8)[:, None]).all()
        )

    def _table_of_steps(self, step: float, zero_point: int) -> NDArray[np.uint8]:
        table: NDArray[np.uint8] = to_steps(torch.from_numpy(self._table()), step, zero_point).numpy()
        return table

    def _table(self) -> NDArray[np.float32]:
        """256×3: what stands for each value of each channel."""
        table: NDArray[np.float32] = np.arange(256, dtype=np.float32)[:, None] * self._scale + self._offset
        return table

    def pad(self, x: Tensor) -> Tensor:
        """Zeros on the right and at the bottom, up to `padded`."""
        height, width = x.shape[-2:]
        to_height, to_width = self.padded(height, width)
        return F.pad(x, (0, to_width - width, 0, to_height - height))

    def coarse_logits(self, x: Tensor) -> Tensor:
        """float32 N×K×h×w on the device, of normalised and padded N×3×H×W."""
        if self.model.training:
            self.model.eval()  # the caller may have trained `predictor.model` meanwhile
        if self.one_by_one and len(x) > 1:
            return torch.cat([self.engine.coarse_logits(one[None]) for one in x])
        return self.engine.coarse_logits(x)


def _look_up(photo: Image, table: NDArray[Any], slot: NDArray[Any]) -> None:
    height, width, _ = photo.shape
    cv2.LUT(np.ascontiguousarray(photo), table[None], dst=slot[:height, :width])


def _fill_around(photo: Image, value: int, slot: NDArray[Any]) -> None:
    height, width, _ = photo.shape
    slot[height:] = value
    slot[:height, width:] = value
