"""What every model of the family is: an image in, coarse logits or full-size logits out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError


class SegmentationModel(nn.Module):
    """A backbone and what a subclass puts behind it.

    Attributes:
        num_classes: K.
        align_corners: how logits are upsampled. With True (the papers' code) an input of k·output_stride + 1
            pixels a side is sampled exactly at its corners.
        paper: where the model stands.
        config: the keyword arguments of `create_model` that make this model again.
    """

    default_output_stride = 16
    align_corners = True
    paper = ""

    def __init__(self, backbone: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self._output_stride = 0
        self._config: dict[str, Any] = {}

    def coarse_logits(self, x: Tensor) -> Tensor:
        """N×3×H×W, normalised, to N×K×h×w at the decoder's or the output stride: h = ceil(H / stride)."""
        raise NotImplementedError

    def training_logits(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """What training judges: coarse logits, each with the weight of its loss in the sum.

        One here; a model that was published with further outputs in training (an auxiliary head, several scales) has
        them too.
        """
        return [(self.coarse_logits(x), 1.0)]

    def score_layers(self) -> list[str]:
        """Names of the convolutions whose results are the coarse logits, or are summed to them."""
        return [name for name, module in self.named_children() if name == "logits" and isinstance(module, nn.Conv2d)]

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W, normalised, to N×K×H×W logits, for any H and W from 1 up."""
        logits = self.coarse_logits(x)
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=self.align_corners)

    @property
    def extra_pixels(self) -> int:
        """How many pixels more than whole output strides a photo's sides are to have, to which it is padded: 0 or 1."""
        return int(self.align_corners)

    @property
    def output_stride(self) -> int:
        return self._output_stride

    @property
    def config(self) -> dict[str, Any]:
        return {**self._config, "output_stride": self._output_stride}

    def set_output_stride(self, output_stride: int) -> None:
        """Changes strides and rates in place; the weights stay (v3, section 4: train at 16, evaluate at 8).

        ASPP's rates follow, (6, 12, 18) at 16 and twice that at 8, unless they were given for this model.

        Raises:
            AtrousError: the model cannot be run at that stride; it is then left as it was.
        """
        self._follow_output_stride(output_stride)
        self._output_stride = int(output_stride)

    def _follow_output_stride(self, output_stride: int) -> None:
        """What changes with the output stride: the backbone, and in a subclass what else there is."""
        self.backbone.set_output_stride(output_stride)  # type: ignore[operator]


def rates_at(base_rates: Sequence[int], output_stride: int, base_stride: int = 16) -> tuple[int, ...]:
    """Rates given for `base_stride`, at another output stride: the same distance on the image (v3, section 4.2)."""
    return tuple(max(rate * base_stride // output_stride, 1) for rate in base_rates)


def check_num_classes(num_classes: object) -> None:
    if not isinstance(num_classes, (int, np.integer)) or not 1 <= num_classes <= 256:
        raise AtrousError(
            f"num_classes={num_classes!r} is no whole number from 1 to 256, the classes that a uint8 label map holds"
        )


def logits_layer(in_channels: int, num_classes: int) -> nn.Conv2d:
    """The last 1×1 convolution: normal of deviation .01, as in the released code."""
    layer = nn.Conv2d(in_channels, num_classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def initialise(model: nn.Module) -> None:
    """He initialisation by fan-out for convolutions without a bias; the rest as its layer made it."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
