"""Multi-scale inputs as in v2 (arXiv 1606.00915): shared weights, the maximum of the scores."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models.segmentation import SegmentationModel


class MultiScale(SegmentationModel):
    """A model run on its input at several scales; its logits are the largest of theirs, position by position.

    It has no weights of its own: its parameters are the model's, under the model's names, so that weights trained with
    it load without it and the other way round. `create_model(..., multi_scale=[0.5, 0.75, 1.0])` makes one.

    Args:
        model: any other model of the family; it is shared, not copied.
        scales: of the input's sides; 1 is the input itself.
    """

    def __init__(self, model: SegmentationModel, scales: Sequence[float] = (0.5, 0.75, 1.0)) -> None:
        if isinstance(model, MultiScale):
            raise AtrousError("MultiScale takes a model that runs at one scale")
        scales = tuple(scales)
        if not scales or not all(0 < scale <= 4 for scale in scales):
            raise AtrousError(f"multi_scale={scales} must be factors above 0 and up to 4, e.g. [0.5, 0.75, 1.0]")
        super().__init__(model.backbone, model.num_classes)
        self._modules: dict[str, nn.Module | None] = model._modules
        self._single = (model,)  # in a tuple, so that torch does not count the same weights twice
        self.scales = scales
        self.align_corners = model.align_corners
        self.paper = f"{model.paper}; v2's multi-scale inputs" if model.paper else "v2's multi-scale inputs"

    @property
    def single(self) -> SegmentationModel:
        """The model at one scale."""
        return self._single[0]

    @property
    def output_stride(self) -> int:
        return self.single.output_stride

    @property
    def config(self) -> dict[str, Any]:
        return {**self.single.config, "multi_scale": list(self.scales)}

    def train(self, mode: bool = True) -> "MultiScale":
        self.single.training = mode
        return super().train(mode)

    def _follow_output_stride(self, output_stride: int) -> None:
        self.single.set_output_stride(output_stride)

    def score_layers(self) -> list[str]:
        return self.single.score_layers()

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """N×3×H×W to the logits of each scale, at that scale's own size, and behind them the fused ones.

        The fused ones have the size of those of the largest scale, to which the others are upsampled.
        """
        each = [self.single.coarse_logits(self._at(x, scale)) for scale in self.scales]
        size = each[max(range(len(each)), key=self.scales.__getitem__)].shape[-2:]
        fused = each[0] if each[0].shape[-2:] == size else self._resize(each[0], size)
        for logits in each[1:]:
            fused = torch.maximum(fused, logits if logits.shape[-2:] == size else self._resize(logits, size))
        return [*each, fused]

    @property
    def extra_pixels(self) -> int:
        return self.single.extra_pixels

    def coarse_logits(self, x: Tensor) -> Tensor:
        return self.all_logits(x)[-1]

    def training_logits(self, x: Tensor) -> list[tuple[Tensor, float]]:
        """`all_logits`: the paper's code adds a loss for each scale and one for the fused logits."""
        return [(logits, 1.0) for logits in self.all_logits(x)]

    def _at(self, x: Tensor, scale: float) -> Tensor:
        """The image at a scale: with aligned corners a side of k·stride + 1 stays of that kind, 321 to 241 to 161.

        Without, as in kazuto1011's code: rounded down, and sampled at exactly that scale, whatever was rounded off.
        """
        if scale == 1:
            return x
        if not self.align_corners and min(x.shape[-2:]) * scale >= 1:
            return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        extra, rounding = (1, 0.5) if self.align_corners else (0, 0)
        return self._resize(x, [max(int((side - extra) * scale + rounding) + extra, 1) for side in x.shape[-2:]])

    def _resize(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(x, tuple(size), mode="bilinear", align_corners=self.align_corners)


def shrink_labels(labels: Tensor, size: Sequence[int], align_corners: bool = True) -> Tensor:
    """The labels at the positions that a smaller map of logits stands for: N×H×W to N×h×w, nearest neighbour.

    With aligned corners 321 to 41 takes every eighth pixel, as Caffe's label shrinking does.
    """
    rows, columns = (
        _positions(full, small, align_corners, labels.device)
        for full, small in zip(labels.shape[-2:], size, strict=True)
    )
    return labels[..., rows[:, None], columns]


def _positions(full: int, small: int, align_corners: bool, device: torch.device) -> Tensor:
    index = torch.arange(small, device=device, dtype=torch.float64)
    if align_corners:
        return (index * ((full - 1) / max(small - 1, 1))).round().long()
    return ((index + 0.5) * (full / small) - 0.5).round().clamp(0, full - 1).long()
