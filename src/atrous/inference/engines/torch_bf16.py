"""torch in bfloat16: half the memory to move, and the instructions for it where the processor has them."""

import torch
from torch import Tensor, nn

from atrous.inference.engines.folding import folded
from atrous.models import SegmentationModel


class TorchBfloat16:
    """A copy of the model with its batch norm folded into the convolutions, in bfloat16 with channels last.

    Only a last 1×1 convolution stays in float32: rounded logits would tie, and the labels' borders show it.
    """

    def __init__(self, model: SegmentationModel, device: torch.device) -> None:
        copy = folded(model).to(torch.bfloat16)
        if isinstance(copy.logits, nn.Conv2d):
            copy.logits = _InFloat32(model.logits)  # type: ignore[arg-type]
        self._model = copy.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def coarse_logits(self, x: Tensor) -> Tensor:
        x = x.to(torch.bfloat16, memory_format=torch.channels_last)
        logits: Tensor = self._model.coarse_logits(x)
        return logits.float()


class _InFloat32(nn.Module):
    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None)
        self.conv.load_state_dict(conv.state_dict())
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv(x.float())
        return logits
