"""The decoder of v3+ (section 3.1, "Proposed decoder")."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.layers.conv import ConvLayer, ConvNormAct
from atrous.ops import resize


class Decoder(nn.Module):
    """Joins the encoder's output with low-level features, reduced to few channels, and refines the two.

    The encoder's output is upsampled to the low-level map, concatenated with it (encoder first, as in the
    released code) and passed through convolutions. Table 1 of the paper chose 48 channels, table 2 two 3×3×256
    among the forms that the arguments give.

    Args:
        low_level_channels: of the 1×1 convolution on the low-level features.
        channels, kernel_size, depth, conv: of the convolutions behind the concatenation.
        align_corners: how the encoder's map is resized; the released code uses True throughout.
    """

    def __init__(
        self,
        in_channels: int,
        low_level_in_channels: int,
        *,
        low_level_channels: int = 48,
        channels: int = 256,
        kernel_size: int = 3,
        depth: int = 2,
        conv: ConvLayer = ConvNormAct,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        if min(low_level_channels, channels, depth) < 1 or kernel_size % 2 == 0:
            raise AtrousError(
                f"a decoder of {low_level_channels} low-level channels and {depth} convolutions "
                f"{kernel_size}×{kernel_size}×{channels} cannot be: numbers from 1 up, and an odd kernel"
            )
        self.low_level = ConvNormAct(low_level_in_channels, low_level_channels)
        widths = [in_channels + low_level_channels] + [channels] * depth
        self.fuse = nn.Sequential(*(conv(*pair, kernel_size) for pair in pairwise(widths)))
        self.channels = channels
        self.align_corners = align_corners

    def forward(self, x: Tensor, low_level: Tensor) -> Tensor:
        height, width = low_level.shape[-2:]
        x = resize(x, (height, width), self.align_corners)
        fused: Tensor = self.fuse(torch.cat([x, self.low_level(low_level)], 1))
        return fused


class FineDecoder(nn.Module):
    """Corrects a decoder's logits at twice their resolution, narrow enough to be cheap there.

    The decoder's features are reduced to a few channels before they are upsampled, and 16 of the finer features are put
    beside them. The last layer begins with zeros: a model that is given one says at first what it said without.

    Args:
        in_channels: of the decoder's features.
        channels: throughout.
        conv: of the one 3×3 convolution at the finer map.
        align_corners: how features and logits are resized.
    """

    def __init__(
        self,
        in_channels: int,
        fine_level_in_channels: int,
        num_classes: int,
        *,
        channels: int,
        conv: ConvLayer = ConvNormAct,
        align_corners: bool = True,
    ) -> None:
        super().__init__()
        self.reduce = ConvNormAct(in_channels, channels)
        self.decoder = Decoder(
            channels,
            fine_level_in_channels,
            low_level_channels=16,
            channels=channels,
            depth=1,
            conv=conv,
            align_corners=align_corners,
        )
        self.logits = nn.Conv2d(channels, num_classes, 1, bias=False)

    def reset(self) -> None:
        """Says nothing, as at the beginning."""
        nn.init.zeros_(self.logits.weight)

    def forward(self, x: Tensor, logits: Tensor, fine_level: Tensor) -> Tensor:
        """The decoder's features and its logits, and the finer map, to logits of that map's size."""
        correction: Tensor = self.logits(self.decoder(self.reduce(x), fine_level))
        height, width = correction.shape[-2:]
        return resize(logits, (height, width), self.decoder.align_corners) + correction
