"""The decoder of v3+ (section 3.1, "Proposed decoder")."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.layers.conv import ConvNormAct, SeparableConv


class Decoder(nn.Module):
    """Joins the encoder's output with low-level features, reduced to few channels, and refines the two.

    The encoder's output is upsampled to the low-level map, concatenated with it (encoder first, as in the
    released code) and passed through two 3×3 convolutions. Table 1 of the paper chose 48 channels, table 2
    the two 3×3×256.

    Args:
        align_corners: how the encoder's map is resized; the released code uses True throughout.
    """

    def __init__(
        self,
        in_channels: int,
        low_level_in_channels: int,
        *,
        low_level_channels: int = 48,
        channels: int = 256,
        separable: bool = False,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        conv = SeparableConv if separable else ConvNormAct
        self.low_level = ConvNormAct(low_level_in_channels, low_level_channels)
        self.fuse = nn.Sequential(
            conv(in_channels + low_level_channels, channels, 3),
            conv(channels, channels, 3),
        )
        self.channels = channels
        self.align_corners = align_corners

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        x = F.interpolate(x, low_level.shape[-2:], mode="bilinear", align_corners=self.align_corners)
        fused: Tensor = self.fuse(torch.cat([x, self.low_level(low_level)], 1))
        return fused
