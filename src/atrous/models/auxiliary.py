"""The auxiliary head that torchvision's and mmsegmentation's DeepLabs train with (from PSPNet, arXiv 1612.01105)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.backbones import Features
from atrous.layers import ConvNormAct
from atrous.models.deeplab_v3 import ASPPModel
from atrous.models.segmentation import initialise, logits_layer

AUXILIARY_WEIGHT = 0.4  # in both projects' training


class AuxiliaryASPPModel(ASPPModel):
    """A model with ASPP that may have a second, small FCN head on the backbone's auxiliary features.

    Only training uses it: a 3×3 convolution to a quarter of the channels, dropout, and 1×1 logits.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, aspp_rates: Sequence[int] | None, **aspp: Any) -> None:
        super().__init__(backbone, num_classes, aspp_rates, **aspp)
        self.auxiliary: ConvNormAct | None = None

    def add_auxiliary_head(self) -> None:
        in_channels: int = self.backbone.auxiliary_channels  # type: ignore[assignment]
        self.auxiliary = ConvNormAct(in_channels, in_channels // 4, 3)
        initialise(self.auxiliary)
        self.auxiliary_dropout = nn.Dropout(0.1)
        self.auxiliary_logits = logits_layer(in_channels // 4, self.num_classes)

    def head(self, features: Features) -> Tensor:
        """The backbone's features to the coarse logits."""
        raise NotImplementedError

    def coarse_logits(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))

    def training_logits(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """The coarse logits, and the auxiliary head's where there is one, with .4 of its loss."""
        if self.auxiliary is None:
            return super().training_logits(x)
        features = self.backbone(x)
        hidden = self.auxiliary_dropout(self.auxiliary(features.auxiliary))
        return [(self.head(features), 1.0), (self.auxiliary_logits(hidden), AUXILIARY_WEIGHT)]
