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

from atrous.errors import AtrousError
from atrous.layers import ASPP, ConvNormAct
from atrous.models.registry import register
from atrous.models.segmentation import SegmentationModel, initialise, logits_layer
from atrous.ops import upsample_cross_entropy

RATES = (12, 24, 36)
AUXILIARY_WEIGHT = 0.4  # in torchvision's training script


class TorchvisionDeepLabV3(SegmentationModel):
    """torchvision's DeepLab v3.

    Args:
        aux: with the auxiliary FCN head on block 3 of a ResNet (in MobileNetV3 the first block at stride 8), which
            only training uses.
    """

    default_output_stride = 8
    paper = "v3, arXiv 1706.05587, as in torchvision"

    def __init__(self, backbone: nn.Module, num_classes: int, output_stride: int, *, aux: bool = False) -> None:
        super().__init__(backbone, num_classes)
        self.align_corners = False
        self.aspp = ASPP(backbone.out_channels, RATES, dropout=0.5)  # type: ignore[arg-type]
        self.refine = ConvNormAct(self.aspp.channels, 256, 3)
        initialise(self)
        self.logits = logits_layer(256, num_classes)
        self.auxiliary: ConvNormAct | None = None
        if aux:
            in_channels: int = backbone.auxiliary_channels  # type: ignore[assignment]
            self.auxiliary = ConvNormAct(in_channels, in_channels // 4, 3)
            initialise(self.auxiliary)
            self.auxiliary_dropout = nn.Dropout(0.1)
            self.auxiliary_logits = logits_layer(in_channels // 4, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        return self._head(self.backbone(x).output)

    def all_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×3×H×W to the coarse logits and the auxiliary head's, of one size in a ResNet.

        Raises:
            AtrousError: the model has no auxiliary head.
        """
        if self.auxiliary is None:
            raise AtrousError("this model has no auxiliary head: make it with aux=True")
        features = self.backbone(x)
        hidden = self.auxiliary_dropout(self.auxiliary(features.auxiliary))
        return self._head(features.output), self.auxiliary_logits(hidden)

    def loss(self, x: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """The loss of torchvision's training script: the cross-entropy, and .4 of the auxiliary head's if there is one.

        Args:
            target: N×H×W integers in 0..K-1, or `ignore_index`.
        """
        if self.auxiliary is None:
            return upsample_cross_entropy(self.coarse_logits(x), target, ignore_index, self.align_corners)
        main, auxiliary = (
            upsample_cross_entropy(logits, target, ignore_index, self.align_corners) for logits in self.all_logits(x)
        )
        return main + AUXILIARY_WEIGHT * auxiliary

    def _head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.refine(self.aspp(features)))
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
