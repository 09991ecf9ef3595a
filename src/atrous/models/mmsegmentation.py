"""mmsegmentation's variants of v3 and v3+ (`deeplabv3_r50-d8` and so on: `ASPPHead`, `DepthwiseSeparableASPPHead`).

They are not the papers' models. Against v3, section 3.3, ASPP has 512 channels and its projection is a 3×3 convolution;
there is no multi-grid; logits are resized with align_corners=False but for some configurations; training adds an
auxiliary FCN head's loss. v3+ has two separable convolutions of 512 channels in its decoder. The ResNet begins with
three 3×3 convolutions (`ResNetV1c`), has a block's stride in its first 3×3 and gives the decoder block 1's output.

Its `multi_grid` holds rates, not multiples of the block's: what `d16-mg124` calls (1, 2, 4) is (1, 1, 2) here.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.backbones import Features
from atrous.layers import Decoder, SeparableConv
from atrous.models.auxiliary import AuxiliaryASPPModel
from atrous.models.registry import register
from atrous.models.segmentation import initialise, logits_layer


class MMSegDeepLabV3(AuxiliaryASPPModel):
    """mmsegmentation's DeepLab v3.

    Args:
        aspp_rates: None takes the paper's, which follow the output stride; rates that are given stay as they are.
        channels: of ASPP's branches and its projection.
        align_corners: how logits are resized; True in the configurations for crops of 769.
        aux: with the auxiliary FCN head on block 3, which only training uses.
    """

    default_output_stride = 8
    paper = "v3, arXiv 1706.05587, as in mmsegmentation"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        aspp_rates: Sequence[int] | None = None,
        channels: int = 512,
        align_corners: bool = False,
        aux: bool = False,
    ) -> None:
        super().__init__(backbone, num_classes, aspp_rates, channels=channels, project_kernel_size=3)
        self.align_corners = align_corners
        initialise(self)
        self.logits = logits_layer(channels, num_classes)
        if aux:
            self.add_auxiliary_head()
        self.set_output_stride(output_stride)

    def head(self, features: Features) -> Tensor:
        logits: Tensor = self.logits(self.aspp(features.output))
        return logits


class MMSegDeepLabV3Plus(AuxiliaryASPPModel):
    """mmsegmentation's DeepLab v3+.

    Args:
        aspp_rates, align_corners, aux: as in `MMSegDeepLabV3`.
        channels: of ASPP's branches, its projection and the decoder's convolutions.
    """

    default_output_stride = 8
    paper = "v3+, arXiv 1802.02611, as in mmsegmentation"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        aspp_rates: Sequence[int] | None = None,
        channels: int = 512,
        align_corners: bool = False,
        aux: bool = False,
    ) -> None:
        super().__init__(
            backbone, num_classes, aspp_rates, channels=channels, conv=SeparableConv, project_kernel_size=3
        )
        self.align_corners = align_corners
        self.decoder = Decoder(
            channels,
            backbone.low_level_channels,  # type: ignore[arg-type]
            channels=channels,
            conv=SeparableConv,
            align_corners=align_corners,
        )
        initialise(self)
        self.logits = logits_layer(channels, num_classes)
        if aux:
            self.add_auxiliary_head()
        self.set_output_stride(output_stride)

    def head(self, features: Features) -> Tensor:
        logits: Tensor = self.logits(self.decoder(self.aspp(features.output), features.low_level))
        return logits


for _backbone in ("resnet50", "resnet101"):
    for _name, _model in (("deeplabv3", MMSegDeepLabV3), ("deeplabv3plus", MMSegDeepLabV3Plus)):
        register(
            f"mmsegmentation_{_name}_{_backbone}",
            _model,
            _backbone,
            multi_grid=(1, 1, 1),
            stride_placement="first_3x3",
            stem="deep",
            verified="outputs of a transcription of the project's layers, with the auxiliary head and without",
        )
