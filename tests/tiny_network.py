"""A network that trains in milliseconds and has all that training treats apart."""

from typing import Any

import torch
from torch import Tensor, nn

from atrous.backbones import BACKBONES
from atrous.layers import ConvNormAct
from atrous.layers.aspp import ImagePooling
from atrous.models import SegmentationModel, registry
from atrous.models.registry import register

NAME = "tiny"


class TinyBackbone(nn.Module):
    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, 3, stride=4)
        self.depthwise = ConvNormAct(8, 8, 3, groups=8)

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.stem(x))

    def set_output_stride(self, output_stride: int) -> None:
        pass


class Tiny(SegmentationModel):
    """Image pooling, whose batch norm sees a value an image, and an auxiliary head."""

    def __init__(self, backbone: nn.Module, num_classes: int, output_stride: int, *, dropout: float = 0.0) -> None:
        super().__init__(backbone, num_classes)
        self.pooling = ImagePooling(8, 8)
        self.project = ConvNormAct(16, 8)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Conv2d(8, num_classes, 1)
        self.auxiliary = nn.Conv2d(8, num_classes, 3, stride=2, padding=1)
        self.set_output_stride(output_stride)

    def training_logits(self, x: Tensor) -> list[tuple[Tensor, float]]:
        features = self.backbone(x)
        joined = self.project(torch.cat([features, self.pooling(features)], 1))
        return [(self.logits(self.dropout(joined)), 1.0), (self.auxiliary(features), 0.4)]

    def coarse_logits(self, x: Tensor) -> Tensor:
        return self.training_logits(x)[0][0]


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"name": NAME},
        "augment": {"crop": (33, 49), "scale": (0.8, 1.2)},
        "optimizer": {"name": "sgd", "lr": 0.05},
        "schedule": {"epochs": 2},
        "batch_size": 4,
        "ema_decay": 0.5,
        "seed": 5,
        **changes,
    }


def register_tiny() -> None:
    """In each process that trains it; `list_models()` then has one more."""
    BACKBONES[NAME] = TinyBackbone
    register(NAME, Tiny, NAME)


def forget_tiny() -> None:
    del BACKBONES[NAME], registry._ARCHITECTURES[NAME]
