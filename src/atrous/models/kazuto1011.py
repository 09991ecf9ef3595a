"""kazuto1011's networks (`deeplab-pytorch`): the papers' models on Caffe's ResNet-101, resampled in another way.

Against the papers' code all resizing is done with align_corners=False, of the image at several scales (see
`MultiScale`) as of maps. v3 and v3+ stand on v2's ResNet, whose stride is in the first 1×1 of a block and whose max
pooling rounds up; the first unit of a block is dilated itself. v3+ resizes its logits to the input's size itself, so
that of several scales the maximum is taken there.
"""

from torch import Tensor
from torch.nn import functional as F

from atrous.models.deeplab_v2 import DeepLabV2
from atrous.models.deeplab_v3 import DeepLabV3
from atrous.models.deeplab_v3plus import DeepLabV3Plus
from atrous.models.registry import register


class KazutoDeepLabV2(DeepLabV2):
    """v2 with align_corners=False."""

    align_corners = False
    paper = "v2, arXiv 1606.00915, as in kazuto1011"


class KazutoDeepLabV3(DeepLabV3):
    """v3 with align_corners=False."""

    align_corners = False
    paper = "v3, arXiv 1706.05587, as in kazuto1011"


class KazutoDeepLabV3Plus(DeepLabV3Plus):
    """v3+ with align_corners=False, whose logits have the input's size."""

    align_corners = False
    paper = "v3+, arXiv 1802.02611, as in kazuto1011"

    def coarse_logits(self, x: Tensor) -> Tensor:
        """N×3×H×W, normalised, to N×K×H×W."""
        return F.interpolate(super().coarse_logits(x), x.shape[-2:], mode="bilinear", align_corners=False)


CAFFE_RESNET = {"stride_placement": "first_1x1", "ceil_mode": True}
_VERIFIED = "outputs of a transcription of the project's layers, at one scale and at three"
register(
    "kazuto1011_deeplabv2_resnet101",
    KazutoDeepLabV2,
    "resnet101",
    multi_grid=(1, 1, 1),
    **CAFFE_RESNET,
    verified=_VERIFIED,
)
register("kazuto1011_deeplabv3_resnet101", KazutoDeepLabV3, "resnet101", **CAFFE_RESNET, verified=_VERIFIED)
register("kazuto1011_deeplabv3plus_resnet101", KazutoDeepLabV3Plus, "resnet101", **CAFFE_RESNET, verified=_VERIFIED)
