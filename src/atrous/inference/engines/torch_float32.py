"""The model itself, exactly: what every other engine is held to."""

import torch
from torch import Tensor

from atrous.models import SegmentationModel


class TorchFloat32:
    """Runs the live model in its own type, so that whatever is changed on it holds from the next photo on."""

    def __init__(self, model: SegmentationModel) -> None:
        self._model = model

    def coarse_logits(self, x: Tensor) -> Tensor:
        dtype = next((p.dtype for p in self._model.parameters()), torch.float32)
        return self._model.coarse_logits(x.to(dtype)).float()
