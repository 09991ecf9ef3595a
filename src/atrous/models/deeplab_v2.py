"""DeepLab v2 (arXiv 1606.00915): parallel atrous convolutions whose scores are summed (section 3.2, "ASPP").

v2's VGG-16 LargeFOV is v1's network, trained by another schedule: it has no name of its own here. The ResNet models
were trained and tested at several scales: see `MultiScale`.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.layers import AtrousConv2d
from atrous.models.deeplab_v1 import ConvolutionalClassifier
from atrous.models.registry import register
from atrous.models.segmentation import SegmentationModel, initialise, logits_layer, rates_at

BranchRates = Literal["LargeFOV", "S", "L"]
PAPER_RATES: dict[str, tuple[int, ...]] = {  # at output stride 8
    "LargeFOV": (12,),
    "S": (2, 4, 8, 12),
    "L": (6, 12, 18, 24),
}


class DeepLabV2(SegmentationModel):
    """One 3×3 convolution to the classes for each rate, summed, on features at output stride 8.

    Neither batch norm nor image pooling nor concatenation: those came with v3's ASPP.

    Args:
        aspp_rates: the paper's ASPP-"S" or "L", or "LargeFOV" (one branch), which follow the output stride; numbers
            stay as they are given.
    """

    default_output_stride = 8
    paper = "v2, arXiv 1606.00915"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        aspp_rates: BranchRates | Sequence[int] = "L",
    ) -> None:
        rates = PAPER_RATES.get(aspp_rates, ()) if isinstance(aspp_rates, str) else tuple(aspp_rates)
        if not rates or min(rates) < 1:
            raise AtrousError(f"aspp_rates={aspp_rates!r} is neither S, L nor LargeFOV, nor whole numbers from 1 up")
        super().__init__(backbone, num_classes)
        initialise(self)
        self._base_rates = rates
        self._rates_follow = isinstance(aspp_rates, str)
        self.aspp = nn.ModuleList(self._branch(backbone.out_channels, num_classes, rate) for rate in rates)  # type: ignore[arg-type]
        self.set_output_stride(output_stride)

    def _branch(self, in_channels: int, num_classes: int, rate: int) -> nn.Module:
        conv = AtrousConv2d(in_channels, num_classes, 3, rate=rate, bias=True)
        nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        return conv

    def _atrous_convs(self) -> list[AtrousConv2d]:
        """The convolution of each branch that carries its rate."""
        return list(self.aspp)  # type: ignore[arg-type]

    def score_layers(self) -> list[str]:
        return [f"aspp.{index}" for index in range(len(self.aspp))]

    @property
    def rates(self) -> tuple[int, ...]:
        return tuple(conv.rate for conv in self._atrous_convs())

    def _follow_output_stride(self, output_stride: int) -> None:
        rates = rates_at(self._base_rates, output_stride, 8) if self._rates_follow else self._base_rates
        super()._follow_output_stride(output_stride)
        for conv, rate in zip(self._atrous_convs(), rates, strict=True):
            conv.rate = rate

    def coarse_logits(self, x: Tensor) -> Tensor:
        features = self.backbone(x).output
        first, *others = self.aspp
        scores: Tensor = first(features)
        for branch in others:
            scores = scores + branch(features)
        return scores


class DeepLabV2VGG(DeepLabV2):
    """The same on VGG-16: each branch is a LargeFOV head of its own (fc6 3×3 at its rate, fc7 1×1, scores)."""

    def _branch(self, in_channels: int, num_classes: int, rate: int) -> nn.Module:
        branch = ConvolutionalClassifier(in_channels, 1024, 3, rate)
        branch.add_module("logits", logits_layer(1024, num_classes))
        return branch

    def score_layers(self) -> list[str]:
        return [f"{branch}.logits" for branch in super().score_layers()]

    def _atrous_convs(self) -> list[AtrousConv2d]:
        return [branch.fc6 for branch in self.aspp]  # type: ignore[misc]


_VERIFIED = "parameters; map sizes of the paper's crop; outputs of a transcription of the released layers"
_RESNET = {"stride_placement": "first_1x1", "multi_grid": (1, 1, 1), "ceil_mode": True}

register("deeplabv2_vgg16_aspp", DeepLabV2VGG, "vgg16", pooling="3x3", verified=_VERIFIED)
register("deeplabv2_resnet101", DeepLabV2, "resnet101", **_RESNET, verified=_VERIFIED)
register("deeplabv2_resnet101_largefov", DeepLabV2, "resnet101", aspp_rates="LargeFOV", **_RESNET, verified=_VERIFIED)
