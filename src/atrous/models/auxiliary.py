"""The auxiliary head that torchvision's and mmsegmentation's DeepLabs train with (from PSPNet, arXiv 1612.01105)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from atrous.backbones import Features
from atrous.errors import AtrousError
from atrous.layers import ConvNormAct
from atrous.models.deeplab_v3 import ASPPModel
from atrous.models.segmentation import initialise, logits_layer
from atrous.ops import upsample_cross_entropy

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

    def all_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """N×3×H×W to the coarse logits and the auxiliary head's.

        Raises:
            AtrousError: the model has no auxiliary head.
        """
        if self.auxiliary is None:
            raise AtrousError("this model has no auxiliary head: make it with aux=True")
        features = self.backbone(x)
        hidden = self.auxiliary_dropout(self.auxiliary(features.auxiliary))
        return self.head(features), self.auxiliary_logits(hidden)

    def loss(self, x: Tensor, target: Tensor, ignore_index: int = 255) -> Tensor:
        """The loss of both projects' training: the cross-entropy, and .4 of the auxiliary head's if there is one.

        Args:
            target: N×H×W integers in 0..K-1, or `ignore_index`.
        """
        if self.auxiliary is None:
            return upsample_cross_entropy(self.coarse_logits(x), target, ignore_index, self.align_corners)
        main, auxiliary = (
            upsample_cross_entropy(logits, target, ignore_index, self.align_corners) for logits in self.all_logits(x)
        )
        return main + AUXILIARY_WEIGHT * auxiliary
