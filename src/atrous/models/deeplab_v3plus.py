"""DeepLab v3+ (arXiv 1802.02611): v3 as the encoder, and a decoder on low-level features (section 3.1)."""

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.layers import ASPP, Decoder
from atrous.models.deeplab_v3 import COUNTED, LITE, PAPER_RATES, XCEPTION
from atrous.models.registry import register
from atrous.models.segmentation import SegmentationModel, initialise, logits_layer, rates_at


class DeepLabV3Plus(SegmentationModel):
    """Logits at stride 4, from the decoder.

    Args:
        aspp_rates: None takes the paper's, which follow the output stride; rates that are given stay as they are.
        separable: ASPP and decoder use atrous separable convolutions (section 3.1).
    """

    paper = "v3+, arXiv 1802.02611, section 3.1"

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
        self.decoder = Decoder(aspp.channels, backbone.low_level_channels, separable=separable)  # type: ignore[arg-type]
        initialise(self)
        self.logits = logits_layer(self.decoder.channels, num_classes)
        self.set_output_stride(output_stride)

    def _follow_output_stride(self, output_stride: int) -> None:
        super()._follow_output_stride(output_stride)
        if self._rates_follow:
            self.aspp.set_rates(rates_at(PAPER_RATES, output_stride))

    def coarse_logits(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        logits: Tensor = self.logits(self.decoder(self.aspp(features.output), features.low_level))
        return logits


for _backbone in ("resnet50", "resnet101"):
    register(f"deeplabv3plus_{_backbone}", DeepLabV3Plus, _backbone, verified=COUNTED)
for _backbone in ("mobilenet_v2", "mobilenet_v2_050"):
    register(f"deeplabv3plus_{_backbone}", DeepLabV3Plus, _backbone, separable=True, verified=COUNTED)
for _backbone in ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"):
    register(f"deeplabv3plus_{_backbone}", DeepLabV3Plus, _backbone, separable=True, verified=LITE)
for _backbone in ("xception41", "xception65", "xception71"):
    register(f"deeplabv3plus_{_backbone}", DeepLabV3Plus, _backbone, separable=True, verified=XCEPTION)
# Not the MobileNetV3 paper's LR-ASPP: the full encoder and decoder of v3+, as for MobileNetV2.
for _backbone in ("mobilenet_v3_large", "mobilenet_v3_small"):
    register(
        f"deeplabv3plus_{_backbone}",
        DeepLabV3Plus,
        _backbone,
        separable=True,
        verified="torchvision's features on the same weights",
    )
