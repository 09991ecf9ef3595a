"""segmentation_models.pytorch's variants of v3 and v3+ (`smp.DeepLabV3`, `smp.DeepLabV3Plus`).

They are not the papers' models. Against v3, section 3.3: rates (12, 24, 36) at every output stride, no multi-grid, a
whole block is dilated once its stride is gone, its first unit too, and a further 3×3 convolution stands behind ASPP.
Against v3+, section 3.1: a separable convolution stands there, and the decoder has one such convolution in place of
two; separable convolutions have no batch norm and ReLU between their two parts. Logits are resized with aligned
corners, as in the papers' code.

Its MobileNetV2 is torchvision's with the 1280 channels behind the last block, its Xceptions are timm's, which give the
decoder the low-level features behind their ReLU.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones import Features
from atrous.layers import ConvNormAct, Decoder, PlainSeparableConv
from atrous.models.deeplab_v3 import ASPPModel
from atrous.models.registry import register
from atrous.models.segmentation import initialise, logits_layer

RATES = (12, 24, 36)


class SmpDeepLabV3(ASPPModel):
    """smp's DeepLab v3.

    Args:
        aspp_rates: the same at every output stride.
        separable: ASPP uses separable convolutions.
        channels: of ASPP's branches and of what is behind it.
    """

    default_output_stride = 8
    extra_pixels = 0  # smp itself takes whole strides alone
    paper = "v3, arXiv 1706.05587, as in segmentation_models.pytorch"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        aspp_rates: Sequence[int] = RATES,
        separable: bool = False,
        channels: int = 256,
    ) -> None:
        conv = PlainSeparableConv if separable else ConvNormAct
        super().__init__(backbone, num_classes, aspp_rates, conv=conv, channels=channels, dropout=0.5)
        self.refine = ConvNormAct(channels, channels, 3)
        initialise(self)
        self.logits = logits_layer(channels, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.refine(self.aspp(self.backbone(x).output)))
        return logits


class SmpDeepLabV3Plus(ASPPModel):
    """smp's DeepLab v3+.

    Args:
        aspp_rates, separable, channels: as in `SmpDeepLabV3`; what is behind ASPP is separable whatever ASPP is.
    """

    extra_pixels = 0  # smp itself takes whole strides alone
    paper = "v3+, arXiv 1802.02611, as in segmentation_models.pytorch"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        aspp_rates: Sequence[int] = RATES,
        separable: bool = True,
        channels: int = 256,
    ) -> None:
        conv = PlainSeparableConv if separable else ConvNormAct
        super().__init__(backbone, num_classes, aspp_rates, conv=conv, channels=channels, dropout=0.5)
        self.refine = PlainSeparableConv(channels, channels, 3)
        low_level_channels: int = backbone.low_level_channels  # type: ignore[assignment]
        self.decoder = Decoder(channels, low_level_channels, channels=channels, depth=1, conv=PlainSeparableConv)
        initialise(self)
        self.logits = logits_layer(channels, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        encoded = self.refine(self.aspp(features.output))
        logits: Tensor = self.logits(self.decoder(encoded, self._low_level(features)))
        return logits

    def _low_level(self, features: Features) -> Tensor:
        return features.low_level


class SmpXceptionDeepLabV3Plus(SmpDeepLabV3Plus):
    """The same on timm's Xception."""

    def _low_level(self, features: Features) -> Tensor:
        return F.relu(features.low_level)


_VERIFIED = "smp's own outputs at output stride 8 and 16"
for _backbone in ("resnet50", "resnet101"):
    for _name, _model in (("deeplabv3", SmpDeepLabV3), ("deeplabv3plus", SmpDeepLabV3Plus)):
        register(
            f"smp_{_name}_{_backbone}",
            _model,
            _backbone,
            multi_grid=(1, 1, 1),
            stride_placement="first_3x3_dilated",
            verified=_VERIFIED,
        )
for _name, _model in (("deeplabv3", SmpDeepLabV3), ("deeplabv3plus", SmpDeepLabV3Plus)):
    register(f"smp_{_name}_mobilenet_v2", _model, "mobilenet_v2", variant="torchvision", last=True, verified=_VERIFIED)
for _backbone in ("xception41", "xception65", "xception71"):
    for _name, _model in (("deeplabv3", SmpDeepLabV3), ("deeplabv3plus", SmpXceptionDeepLabV3Plus)):
        register(f"smp_{_name}_{_backbone}", _model, _backbone, verified=_VERIFIED)
