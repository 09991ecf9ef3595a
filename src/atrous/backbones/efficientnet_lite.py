"""EfficientNet-Lite 0 to 2: EfficientNet (arXiv 1905.11946, table 1) without squeeze-and-excitation, with ReLU6.

Source: tensorflow/tpu, `efficientnet/lite`. Against EfficientNet the stem and the head keep their width, and the
first and the last stage their depth, at every size.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from atrous.backbones.inverted_residual import (
    BN_EPS,
    NO_MULTI_GRID,
    MobileBackbone,
    Stage,
    inverted_residuals,
    mobile_stem,
    rounded,
)
from atrous.layers import ConvNormAct

# kernel, stride, expansion, channels, repeats
STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)


def _scaled(width: float, depth: float, multi_grid: Sequence[int]) -> MobileBackbone:
    stages = []
    for index, stage in enumerate(STAGES):
        ends = index in (0, len(STAGES) - 1)
        repeats = stage.repeats if ends else math.ceil(stage.repeats * depth)
        stages.append(stage._replace(channels=rounded(stage.channels * width), repeats=repeats))
    return MobileBackbone(mobile_stem(32), inverted_residuals(32, stages), multi_grid=multi_grid)


def efficientnet_lite0(*, multi_grid: Sequence[int] = NO_MULTI_GRID) -> MobileBackbone:
    return _scaled(1.0, 1.0, multi_grid)


def efficientnet_lite1(*, multi_grid: Sequence[int] = NO_MULTI_GRID) -> MobileBackbone:
    return _scaled(1.0, 1.1, multi_grid)


def efficientnet_lite2(*, multi_grid: Sequence[int] = NO_MULTI_GRID) -> MobileBackbone:
    return _scaled(1.1, 1.2, multi_grid)


class EfficientNetLiteClassifier(nn.Module):
    """The ImageNet classifier around a backbone: 1×1 to 1280 channels, global average, 1000 classes."""

    def __init__(self, backbone: MobileBackbone, num_classes: int = 1000) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ConvNormAct(backbone.out_channels, 1280, act="relu6", eps=BN_EPS)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W, normalised with mean = std = .5, to N×1000 logits."""
        features: Tensor = self.head(self.backbone(x).output).mean((2, 3))
        logits: Tensor = self.fc(self.dropout(features))
        return logits
