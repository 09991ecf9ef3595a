"""jfzhang95's v3+ on MobileNetV2 (`pytorch-deeplab-xception`).

It is not a model of the papers: its MobileNetV2 pads and dilates in its own way (see `InvertedResidual` and
`StagewiseMobileNetV2`), gives the decoder a block's output of 24 channels, and ASPP and decoder are those of the
ResNets, with atrous branches and without separable convolutions. On ResNet-101 the project's network is
`deeplabv3plus_resnet101` with `stride_placement="first_3x3_dilated"`.
"""

from atrous.models.deeplab_v3plus import DeepLabV3Plus
from atrous.models.registry import register


class JfzhangDeepLabV3Plus(DeepLabV3Plus):
    """v3+ with another MobileNetV2."""

    paper = "v3+, arXiv 1802.02611, as in jfzhang95"


register(
    "jfzhang95_deeplabv3plus_mobilenet_v2",
    JfzhangDeepLabV3Plus,
    "mobilenet_v2",
    variant="jfzhang95",
    verified="outputs of a transcription of the project's layers at output stride 8 and 16",
)
