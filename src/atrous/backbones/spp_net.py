"""SPP-net (He et al., arXiv 1406.4729) on VGG-16: a classifier of images of any size."""

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.backbones.vgg import VGG16
from atrous.layers import SpatialPyramidPooling


class SPPNet(nn.Module):
    """VGG-16's convolutions, spatial pyramid pooling in place of pool5, and three fully connected layers.

    Args:
        levels: n of each level of the pyramid; 4×4, 2×2 and 1×1 give 21 · 512 values.
    """

    def __init__(self, num_classes: int = 1000, levels: Sequence[int] = (4, 2, 1)) -> None:
        super().__init__()
        self.backbone = VGG16(pooling="vgg")
        self.spp = SpatialPyramidPooling(levels)
        self.fc6 = nn.Linear(self.backbone.out_channels * self.spp.bins, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, num_classes)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W, any H and W from 1 up, to N×classes."""
        x = self.spp(self.backbone(x).output)
        x = self.dropout(self.relu(self.fc6(x)))
        x = self.dropout(self.relu(self.fc7(x)))
        logits: Tensor = self.fc8(x)
        return logits
