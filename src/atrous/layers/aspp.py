"""Atrous spatial pyramid pooling as in v3 (section 3.3), and its image pooling."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.layers.conv import ConvLayer, ConvNormAct
from atrous.ops import spatial_mean


class ImagePooling(nn.Module):
    """Image-level features: global average, 1×1 convolution, batch norm, ReLU, spread over the map.

    Upsampling a 1×1 map bilinearly is repeating it, so it is expanded without a copy.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = ConvNormAct(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.project(spatial_mean(x))
        return pooled.expand(-1, -1, *x.shape[-2:])


class ASPP(nn.Module):
    """Parallel 1×1 convolution, 3×3 convolutions at several rates and image pooling, concatenated, then 1×1.

    Each is followed by batch norm and ReLU; dropout follows the projection. Without rates it is the form
    that the released MobileNetV2 models use: the 1×1 branch and image pooling alone.

    Args:
        rates: one 3×3 branch for each, e.g. (6, 12, 18) at output stride 16.
        channels: of each branch and of the projection.
        conv: the 3×3 branches; atrous separable convolutions in v3+.
        project_kernel_size: of the projection; all but mmsegmentation's have 1.
        dropout: probability of dropping (the released code keeps .9).
    """

    def __init__(
        self,
        in_channels: int,
        rates: Sequence[int] = (6, 12, 18),
        *,
        channels: int = 256,
        conv: ConvLayer = ConvNormAct,
        image_pooling: bool = True,
        project_kernel_size: int = 1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pointwise = ConvNormAct(in_channels, channels)
        self.atrous = nn.ModuleList(conv(in_channels, channels, 3, rate=rate) for rate in rates)
        self.image_pooling = ImagePooling(in_channels, channels) if image_pooling else None
        self.project = ConvNormAct(channels * (1 + len(rates) + image_pooling), channels, project_kernel_size)
        self.dropout = nn.Dropout(dropout)
        self.channels = channels

    @property
    def rates(self) -> tuple[int, ...]:
        return tuple(branch.conv.rate for branch in self.atrous)  # type: ignore[union-attr,misc]

    def set_rates(self, rates: Sequence[int]) -> None:
        if len(rates) != len(self.atrous):
            raise AtrousError(
                f"this ASPP has {len(self.atrous)} atrous branches, not {len(rates)}: rates {tuple(rates)}"
            )
        for branch, rate in zip(self.atrous, rates, strict=True):
            branch.conv.rate = rate  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.pointwise(x), *(branch(x) for branch in self.atrous)]
        if self.image_pooling is not None:
            branches.append(self.image_pooling(x))
        projected: Tensor = self.dropout(self.project(torch.cat(branches, 1)))
        return projected
