"""DeepLab v3 (arXiv 1706.05587): atrous backbone, ASPP with image pooling, 1×1 logits (section 3.3)."""

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.layers import ASPP
from atrous.models.registry import register
from atrous.models.segmentation import SegmentationModel, initialise, logits_layer, rates_at

PAPER_RATES = (6, 12, 18)  # section 3.3, at output stride 16


class DeepLabV3(SegmentationModel):
    """Logits straight from ASPP, at the output stride.

    Args:
        aspp_rates: None takes the paper's, which follow the output stride; rates that are given stay as they are.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        aspp_rates: Sequence[int] | None = None,
        image_pooling: bool = True,
        separable: bool = False,
    ) -> None:
        rates = PAPER_RATES if aspp_rates is None else tuple(aspp_rates)
        aspp = ASPP(backbone.out_channels, rates, separable=separable, image_pooling=image_pooling)  # type: ignore[arg-type]
        super().__init__(backbone, num_classes)
        self.aspp = aspp
        self._rates_follow = aspp_rates is None
        initialise(self)
        self.logits = logits_layer(aspp.channels, num_classes)
        self.set_output_stride(output_stride)

    def _follow_output_stride(self, output_stride: int) -> None:
        rates = rates_at(PAPER_RATES, output_stride) if self._rates_follow else self.aspp.rates
        super()._follow_output_stride(output_stride)
        self.aspp.set_rates(rates)

    def coarse_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.aspp(self.backbone(x).output))
        return logits


for _backbone in ("resnet50", "resnet101", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"):
    register(f"deeplabv3_{_backbone}", DeepLabV3, _backbone)
# The released MobileNetV2 models have no atrous branches in ASPP (the MobileNetV2 paper, section 6.3).
for _backbone in ("mobilenet_v2", "mobilenet_v2_050"):
    register(f"deeplabv3_{_backbone}", DeepLabV3, _backbone, aspp_rates=())
