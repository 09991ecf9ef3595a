"""torchvision's variant of v3 (`torchvision.models.segmentation.deeplabv3_*`), the one that its users' weights fit.

It is not the paper's model. Against section 3.3: a further 3×3 convolution of 256 channels behind ASPP; dropout
of .5 behind ASPP's projection; rates (12, 24, 36) at every output stride; no multi-grid; the stride in the first 3×3
of a ResNet's block, and in MobileNetV3 the block whose stride is taken out is dilated itself; logits are resized with
align_corners=False; training adds an auxiliary FCN head's loss.

State by torchvision's names and ours: `backbone.*` of the ResNets is the same. Elsewhere the tensors come in the same
order: `classifier.0.convs.0` is `aspp.pointwise`, `.1` to `.3` `aspp.atrous.0` to `.2`, `.4` `aspp.image_pooling`,
`classifier.0.project` `aspp.project`, `classifier.1` and `.2` `refine.conv` and `.bn`, `classifier.4` `logits`;
`aux_classifier.0` and `.1` `auxiliary.conv` and `.bn`, `.4` `auxiliary_logits`. In MobileNetV3 `backbone.0` is
`backbone.stem`, `backbone.N` `backbone.blocks.N-1` and `backbone.16` `backbone.last`.
"""

from torch import Tensor, nn

from atrous.backbones import Features
from atrous.layers import ConvNormAct
from atrous.models.auxiliary import AuxiliaryASPPModel
from atrous.models.registry import register
from atrous.models.segmentation import initialise, logits_layer

RATES = (12, 24, 36)


class TorchvisionDeepLabV3(AuxiliaryASPPModel):
    """torchvision's DeepLab v3.

    Args:
        aux: with the auxiliary FCN head on block 3 of a ResNet (in MobileNetV3 the first block at stride 8), which
            only training uses.
    """

    default_output_stride = 8
    align_corners = False
    paper = "v3, arXiv 1706.05587, as in torchvision"

    def __init__(self, backbone: nn.Module, num_classes: int, output_stride: int, *, aux: bool = False) -> None:
        super().__init__(backbone, num_classes, RATES, dropout=0.5)
        self.refine = ConvNormAct(self.aspp.channels, 256, 3)
        initialise(self)
        self.logits = logits_layer(256, num_classes)
        if aux:
            self.add_auxiliary_head()
        self.set_output_stride(output_stride)

    def head(self, features: Features) -> Tensor:
        logits: Tensor = self.logits(self.refine(self.aspp(features.output)))
        return logits


class TorchvisionMobileDeepLabV3(TorchvisionDeepLabV3):
    """The same on MobileNetV3, whose last stride alone torchvision takes out."""

    default_output_stride = 16


_VERIFIED = "torchvision's own outputs and parameters, with the auxiliary head and without"
for _backbone in ("resnet50", "resnet101"):
    register(
        f"torchvision_deeplabv3_{_backbone}",
        TorchvisionDeepLabV3,
        _backbone,
        multi_grid=(1, 1, 1),
        stride_placement="first_3x3",
        verified=_VERIFIED,
    )
register(
    "torchvision_deeplabv3_mobilenet_v3_large",
    TorchvisionMobileDeepLabV3,
    "mobilenet_v3_large",
    variant="torchvision",
    verified=_VERIFIED,
)
