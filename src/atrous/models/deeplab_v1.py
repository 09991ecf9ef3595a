"""DeepLab v1 (arXiv 1412.7062): VGG-16 made fully convolutional with atrous convolution, biases and no batch norm.

Released for Caffe, with sizes of its own: see `backbones/vgg.py`. Rates are the paper's at output stride 8, the one it
has, and follow another output stride.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.vgg import biased_conv
from atrous.errors import AtrousError
from atrous.layers import AtrousConv2d
from atrous.models.registry import register
from atrous.models.segmentation import SegmentationModel, logits_layer, rates_at

# The field-of-view table: kernel of fc6 to channels and rate. (4×4 also at rate 8.)
FC6 = {7: (4096, 4), 4: (4096, 4), 3: (1024, 12)}
MSC_CHANNELS = 128


class ConvolutionalClassifier(nn.Sequential):
    """VGG's first two fully connected layers as convolutions: fc6 k×k at a rate, fc7 1×1; ReLU and dropout each."""

    fc6: AtrousConv2d

    def __init__(self, in_channels: int, channels: int, kernel_size: int, rate: int) -> None:
        super().__init__()
        self.add_module("fc6", biased_conv(in_channels, channels, kernel_size, rate=rate))
        self.add_module("relu6", nn.ReLU(inplace=True))
        self.add_module("drop6", nn.Dropout(0.5))
        self.add_module("fc7", biased_conv(channels, channels, 1))
        self.add_module("relu7", nn.ReLU(inplace=True))
        self.add_module("drop7", nn.Dropout(0.5))


class MultiScaleFeatures(nn.Module):
    """Section 4.3, "MSc": the image and the outputs of pool1 to pool4, each through 3×3×128 and 1×1×128.

    The 3×3 convolutions carry the stride that is left to the output stride. ReLU and dropout follow each convolution.
    One classifier on the concatenation is the sum of a classifier on each, as ports of the released layers have it,
    but for five biases more.
    """

    STRIDES = (1, 2, 4, 8, 16)  # of the image and of pool1 to pool4, until the output stride is reached

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                biased_conv(in_channels, MSC_CHANNELS, 3),
                nn.ReLU(inplace=True),
                nn.Dropout(0.5),
                biased_conv(MSC_CHANNELS, MSC_CHANNELS, 1),
                nn.ReLU(inplace=True),
                nn.Dropout(0.5),
            )
            for in_channels in (3, 64, 128, 256, 512)
        )

    def _first_convs(self) -> list[AtrousConv2d]:
        return [branch[0] for branch in self.branches]  # type: ignore[index]

    def set_output_stride(self, output_stride: int) -> None:
        for conv, stride in zip(self._first_convs(), self.STRIDES, strict=True):
            conv.set_stride(max(output_stride // stride, 1))

    def forward(self, image: Tensor, pools: list[Tensor]) -> Tensor:
        """The image and the outputs of pool1 to pool4 to N×640×h×w."""
        strides = [conv.stride[0] for conv in self._first_convs()]
        sources = [_padded(x, stride) for x, stride in zip([image, *pools], strides, strict=True)]
        return torch.cat([branch(x) for branch, x in zip(self.branches, sources, strict=True)], 1)


def _padded(x: Tensor, stride: int) -> Tensor:
    """Sides of k·stride + 1: Caffe's pooling rounds up at the end of a side, so the branches must have as many."""
    return F.pad(x, (0, (1 - x.shape[-1]) % stride, 0, (1 - x.shape[-2]) % stride))


class DeepLabV1(SegmentationModel):
    """fc6, fc7 and logits on VGG-16's features; with MSc also on the earlier layers' features.

    Args:
        fc6_kernel: 7, or 4, subsampled from it (4096 channels); 3 is LargeFOV (1024). The 2×2 pools are the released
            4×4 model's; the 7×7 model has them here too.
        fc6_rate: at output stride 8; None takes the paper's, 4 for kernels of 7 and 4, 12 for LargeFOV.
        msc: concatenate 5 · 128 channels of multi-scale features to fc7's.
    """

    default_output_stride = 8
    paper = "v1, arXiv 1412.7062"

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        output_stride: int,
        *,
        fc6_kernel: int = 7,
        fc6_rate: int | None = None,
        msc: bool = False,
    ) -> None:
        if fc6_kernel not in FC6:
            raise AtrousError(f"fc6_kernel={fc6_kernel} is not 7, 4 or 3")
        channels, paper_rate = FC6[fc6_kernel]
        if msc and backbone.pooling != "3x3":
            raise AtrousError(f"msc needs pooling='3x3': with {backbone.pooling!r} its layers do not align")
        super().__init__(backbone, num_classes)
        self.fc6_rate = paper_rate if fc6_rate is None else fc6_rate
        self.head = ConvolutionalClassifier(backbone.out_channels, channels, fc6_kernel, self.fc6_rate)  # type: ignore[arg-type]
        self.msc = MultiScaleFeatures() if msc else None
        self.logits = logits_layer(channels + (5 * MSC_CHANNELS if msc else 0), num_classes)
        self.set_output_stride(output_stride)

    def _follow_output_stride(self, output_stride: int) -> None:
        kernel_size = self.head.fc6.kernel_size[0]
        (rate,) = rates_at((self.fc6_rate,), output_stride, 8)
        if kernel_size % 2 == 0 and rate % 2:
            raise AtrousError(
                f"output_stride={output_stride} needs an even rate for fc6_kernel={kernel_size}, not {rate}: "
                f"give an fc6_rate that is a multiple of {output_stride // 4}"
            )
        super()._follow_output_stride(output_stride)
        self.head.fc6.rate = rate
        if self.msc is not None:
            self.msc.set_output_stride(output_stride)

    def coarse_logits(self, x: Tensor) -> Tensor:
        *pools, last = self.backbone.stages(x)  # type: ignore[operator]
        features: Tensor = self.head(last)
        if self.msc is not None:
            features = torch.cat([features, self.msc(x, pools)], 1)
        logits: Tensor = self.logits(features)
        return logits


_VERIFIED = "parameters; map sizes of the paper's crops; outputs of a transcription of the released layers"

register("deeplabv1_vgg16", DeepLabV1, "vgg16", pooling="2x2", verified=_VERIFIED)
register(
    "deeplabv1_vgg16_largefov", DeepLabV1, "vgg16", fc6_kernel=3, pooling="3x3", average_pool5=True, verified=_VERIFIED
)
# The released MSc models all have the 3×3 pools: with 2×2 ones the layers do not lie on one another.
register("deeplabv1_vgg16_msc", DeepLabV1, "vgg16", msc=True, pooling="3x3", verified=_VERIFIED)
register(
    "deeplabv1_vgg16_largefov_msc",
    DeepLabV1,
    "vgg16",
    fc6_kernel=3,
    msc=True,
    pooling="3x3",
    average_pool5=True,
    verified=_VERIFIED,
)
