"""DeepLab v3 (arXiv 1706.05587): atrous backbone, ASPP with image pooling, 1×1 logits (section 3.3)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.layers import ASPP, ConvNormAct, SeparableConv
from atrous.models.registry import register
from atrous.models.segmentation import SegmentationModel, initialise, logits_layer, rates_at

PAPER_RATES = (6, 12, 18)  # section 3.3, at output stride 16


class ASPPModel(SegmentationModel):
    """A backbone and ASPP on it: v3 but for its logits, and the encoder of v3+.

    Args:
        aspp_rates: None takes the paper's, which follow the output stride; rates that are given stay as they are.
        aspp: ASPP's other arguments.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, aspp_rates: Sequence[int] | None, **aspp: Any) -> None:
        rates = PAPER_RATES if aspp_rates is None else tuple(aspp_rates)
        super().__init__(backbone, num_classes)
        self.aspp = ASPP(backbone.out_channels, rates, **aspp)  # type: ignore[arg-type]
        self._rates_follow = aspp_rates is None

    def _follow_output_stride(self, output_stride: int) -> None:
        super()._follow_output_stride(output_stride)
        if self._rates_follow:
            self.aspp.set_rates(rates_at(PAPER_RATES, output_stride))


class DeepLabV3(ASPPModel):
    """Logits straight from ASPP, at the output stride.

    Args:
        aspp_rates: None takes the paper's, which follow the output stride; rates that are given stay as they are.
        image_pooling: with image-level features.
        separable: ASPP uses atrous separable convolutions (v3+, section 3.1).
    """

    paper = "v3, arXiv 1706.05587, section 3.3"

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
        conv = SeparableConv if separable else ConvNormAct
        super().__init__(backbone, num_classes, aspp_rates, conv=conv, image_pooling=image_pooling)
        initialise(self)
        self.logits = logits_layer(self.aspp.channels, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.aspp(self.backbone(x).output))
        return logits


class CascadedDeepLabV3(SegmentationModel):
    """Logits straight from block 4, or from the copies of it that go deeper (section 3.2); no ASPP.

    Blocks 5 to 7 each hold a stride of 2 but for the last, so that the whole may run at output stride 256 (table 1).
    """

    paper = "v3, arXiv 1706.05587, section 3.2"

    def __init__(self, backbone: nn.Module, num_classes: int, output_stride: int) -> None:
        super().__init__(backbone, num_classes)
        initialise(self)
        self.logits = logits_layer(backbone.out_channels, num_classes)  # type: ignore[arg-type]
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.backbone(x).output)
        return logits


STRIDES = "the same features at output stride 8, 16, 32"
RESNET = f"smp's features on the same weights, where the stride sits as there; parameters and multiply-adds; {STRIDES}"
LITE = f"the ImageNet classifier on its backbone; {STRIDES}"
XCEPTION = f"TensorFlow's outputs and timm's features on the same weights; parameters and multiply-adds; {STRIDES}"
MOBILE = f"TensorFlow's and transformers' outputs on the same weights; parameters and multiply-adds; {STRIDES}"

# Table 3's best: down to block 7, multi-grid (1, 2, 1).
for _backbone in ("resnet50", "resnet101"):
    register(
        f"deeplabv3_cascade_{_backbone}",
        CascadedDeepLabV3,
        _backbone,
        blocks=7,
        multi_grid=(1, 2, 1),
        verified="parameters; outputs of a transcription of the paper",
    )
# Without copies of a last block: what a multi-grid or an output stride does, by itself, on a small backbone.
for _backbone in ("efficientnet_lite0", "mobilenet_v2", "mobilenet_v2_050"):
    register(f"deeplabv3_cascade_{_backbone}", CascadedDeepLabV3, _backbone, verified=STRIDES)
for _backbone in ("resnet50", "resnet101"):
    register(f"deeplabv3_{_backbone}", DeepLabV3, _backbone, verified=RESNET)
for _backbone in ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"):
    register(f"deeplabv3_{_backbone}", DeepLabV3, _backbone, verified=LITE)
# The released MobileNetV2 models have no atrous branches in ASPP (the MobileNetV2 paper, section 6.3).
for _backbone in ("mobilenet_v2", "mobilenet_v2_050"):
    register(f"deeplabv3_{_backbone}", DeepLabV3, _backbone, aspp_rates=(), verified=MOBILE)
for _backbone in ("xception41", "xception65", "xception71"):
    register(f"deeplabv3_{_backbone}", DeepLabV3, _backbone, verified=XCEPTION)
