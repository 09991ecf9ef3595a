"""torch in bfloat16: half the memory to move, and the instructions for it where the processor has them."""

import copy

import torch
from torch import Tensor, nn

from atrous.inference.engines.folding import folded
from atrous.models import SegmentationModel


class TorchBfloat16:
    """A copy of the model with its batch norm folded into the convolutions, in bfloat16 with channels last.

    Only the convolutions to the logits stay in float32: rounded logits would tie, and the labels' borders show it.
    """

    def __init__(self, model: SegmentationModel, device: torch.device) -> None:
        twin = folded(model)
        exact = {name: _InFloat32(twin.get_submodule(name)) for name in twin.score_layers()}
        twin.to(torch.bfloat16)
        for name, layer in exact.items():
            twin.set_submodule(name, layer)
        self._model = twin.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def coarse_logits(self, x: Tensor) -> Tensor:
        x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        logits: Tensor = self._model.coarse_logits(x)
        return logits.float()


class _InFloat32(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.layer(x.float())
        return scores
