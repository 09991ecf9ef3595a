"""VainF's variants of v3 and v3+ (`DeepLabV3Plus-Pytorch`).

They are not the papers' models. On torchvision's ResNets, dilated as there, without multi-grid, and on a MobileNetV2
with ASPP's atrous branches that pads in its own way (see `InvertedResidual`) and needs 3 pixels a side; all resizing
with align_corners=False.
Against v3, section 3.3: a further 3×3 convolution of 256 channels behind ASPP, as in torchvision, but rates that
follow the output stride. Against v3+, section 3.1: one 3×3 convolution in the decoder in place of two; separable
convolutions have no batch norm and ReLU between their two parts, and the low-level features stand first in the
concatenation (here behind, as in the papers' code: the conversion exchanges them).
"""

from torch import Tensor, nn

from atrous.layers import ConvNormAct, Decoder, PlainSeparableConv
from atrous.models.deeplab_v3 import ASPPModel
from atrous.models.registry import register
from atrous.models.segmentation import initialise, logits_layer


class VainFDeepLabV3(ASPPModel):
    """VainF's DeepLab v3."""

    align_corners = False
    paper = "v3, arXiv 1706.05587, as in VainF"

    def __init__(self, backbone: nn.Module, num_classes: int, output_stride: int) -> None:
        super().__init__(backbone, num_classes, None)
        self.refine = ConvNormAct(self.aspp.channels, 256, 3)
        initialise(self)
        self.logits = logits_layer(256, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.refine(self.aspp(self.backbone(x).output)))
        return logits


class VainFDeepLabV3Plus(ASPPModel):
    """VainF's DeepLab v3+.

    Args:
        separable: its `--separable_conv`: the 3×3 convolutions of ASPP and decoder are separable ones.
    """

    align_corners = False
    paper = "v3+, arXiv 1802.02611, as in VainF"

    def __init__(self, backbone: nn.Module, num_classes: int, output_stride: int, *, separable: bool = False) -> None:
        conv = PlainSeparableConv if separable else ConvNormAct
        super().__init__(backbone, num_classes, None, conv=conv)
        low_level_channels: int = backbone.low_level_channels  # type: ignore[assignment]
        self.decoder = Decoder(self.aspp.channels, low_level_channels, depth=1, conv=conv, align_corners=False)
        initialise(self)
        self.logits = logits_layer(self.decoder.channels, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        logits: Tensor = self.logits(self.decoder(self.aspp(features.output), features.low_level))
        return logits


_VERIFIED = "outputs of a transcription of the project's layers at output stride 8 and 16"
for _backbone in ("resnet50", "resnet101"):
    for _name, _model in (("deeplabv3", VainFDeepLabV3), ("deeplabv3plus", VainFDeepLabV3Plus)):
        register(
            f"vainf_{_name}_{_backbone}",
            _model,
            _backbone,
            multi_grid=(1, 1, 1),
            stride_placement="first_3x3",
            verified=_VERIFIED,
        )
for _name, _model in (("deeplabv3", VainFDeepLabV3), ("deeplabv3plus", VainFDeepLabV3Plus)):
    register(f"vainf_{_name}_mobilenet_v2", _model, "mobilenet_v2", variant="vainf", verified=_VERIFIED)
