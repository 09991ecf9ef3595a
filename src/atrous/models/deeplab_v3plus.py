"""DeepLab v3+ (arXiv 1802.02611): v3 as the encoder, and a decoder on low-level features (section 3.1)."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.layers import ConvNormAct, Decoder, FineDecoder, SeparableConv
from atrous.models.deeplab_v3 import LITE, RESNET, STRIDES, XCEPTION, ASPPModel
from atrous.models.registry import register
from atrous.models.segmentation import initialise, logits_layer


class DeepLabV3Plus(ASPPModel):
    """Logits from the decoder, at stride 4 as in the paper.

    Args:
        aspp_rates, image_pooling: as in `DeepLabV3`.
        separable: ASPP and decoder use atrous separable convolutions (section 3.1).
        low_level_channels: of the 1×1 convolution on the low-level features (table 1).
        decoder_channels, decoder_kernel_size, decoder_depth: of the convolutions behind the concatenation (table 2).
        conv3: a decoder at stride 8 before the one at stride 4, of the same form (table 2, "Conv3").
        fine_channels: of a step that corrects the logits at stride 2, for things a few pixels wide. Ours: the paper
            stops at stride 4. 0 has none.
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
        low_level_channels: int = 48,
        decoder_channels: int = 256,
        decoder_kernel_size: int = 3,
        decoder_depth: int = 2,
        conv3: bool = False,
        fine_channels: int = 0,
    ) -> None:
        if fine_channels < 0:
            raise AtrousError(f"fine_channels={fine_channels} is less than 0, which corrects nothing at stride 2")
        conv = SeparableConv if separable else ConvNormAct
        super().__init__(backbone, num_classes, aspp_rates, conv=conv, image_pooling=image_pooling)
        decoder = partial(
            Decoder,
            low_level_channels=low_level_channels,
            channels=decoder_channels,
            kernel_size=decoder_kernel_size,
            depth=decoder_depth,
            conv=conv if decoder_kernel_size > 1 else ConvNormAct,
            align_corners=self.align_corners,
        )
        channels = self.aspp.channels
        self.middle_decoder: Decoder | None = None
        if conv3:
            self.middle_decoder = decoder(channels, backbone.middle_level_channels)  # type: ignore[arg-type]
            channels = self.middle_decoder.channels
        self.decoder = decoder(channels, backbone.low_level_channels)  # type: ignore[arg-type]
        self.fine_decoder: FineDecoder | None = None
        if fine_channels:
            self.fine_decoder = FineDecoder(
                self.decoder.channels,
                backbone.fine_level_channels,  # type: ignore[arg-type]
                num_classes,
                channels=fine_channels,
                conv=conv,
                align_corners=self.align_corners,
            )
        initialise(self)
        if self.fine_decoder is not None:
            self.fine_decoder.reset()
        self.logits = logits_layer(self.decoder.channels, num_classes)
        self.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        encoded = self.aspp(features.output)
        if self.middle_decoder is not None:
            encoded = self.middle_decoder(encoded, features.middle_level)
        decoded = self.decoder(encoded, features.low_level)
        logits: Tensor = self.logits(decoded)
        if self.fine_decoder is None:
            return logits
        corrected: Tensor = self.fine_decoder(decoded, logits, features.fine_level)
        return corrected


MOBILE_DECODER = f"TensorFlow's outputs on the same weights; parameters and multiply-adds; {STRIDES}"

for _backbone in ("resnet50", "resnet101"):
    register(f"deeplabv3plus_{_backbone}", DeepLabV3Plus, _backbone, verified=RESNET)
for _backbone in ("mobilenet_v2", "mobilenet_v2_050"):
    register(f"deeplabv3plus_{_backbone}", DeepLabV3Plus, _backbone, separable=True, verified=MOBILE_DECODER)
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
