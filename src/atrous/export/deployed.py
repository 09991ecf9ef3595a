"""A predictor's whole walk as one module: a photo's bytes in, labels or logits of its own size out."""

import json
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import atrous
from atrous.inference.engines.graph import CoarseLogits
from atrous.inference.engines.still import still
from atrous.models import SegmentationModel
from atrous.weights import ModelCard

Output = Literal["labels", "logits"]
Size = tuple[int, int]
INPUT = "image"


class Deployed(nn.Module):
    """Normalises, pads to the stride, runs the model, upsamples and crops: what `Predictor` does, in one graph.

    Args:
        model: copied; it may change or move afterwards.
        output: "labels" are uint8 N×H×W; "logits" float32 N×K×H×W.
        size: (H, W) of all photos; None for any.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: SegmentationModel, card: ModelCard, output: Output, size: Size | None = None) -> None:
        super().__init__()
        self.output, self.size = output, size
        self.model = still(model).requires_grad_(False)
        self.network = CoarseLogits(self.model)
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (card.mean, card.std))
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (mean / std).float())
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """uint8 N×H×W×3, RGB, to the output."""
        return self.finish(self.logits(image))

    def logits(self, image: Tensor) -> Tensor:
        """uint8 N×H×W×3 to float32 N×K×H×W."""
        height, width = self.size or (image.shape[1], image.shape[2])  # plain numbers where they are known
        stride, extra = self.model.output_stride, self.model.extra_pixels
        # Whole strides from above, in whole numbers: negative ones divide otherwise in other runtimes.
        to_height, to_width = ((side - extra + stride - 1) // stride * stride + extra for side in (height, width))
        x = image.permute(0, 3, 1, 2).float() * self.scale - self.shift
        coarse = self.network(F.pad(x, (0, to_width - width, 0, to_height - height)))
        full = F.interpolate(coarse, (to_height, to_width), mode="bilinear", align_corners=self.model.align_corners)
        # Cropped by padding with less than nothing: of a slice torch.export asks for ever whether it is the whole.
        return F.pad(full, (0, width - to_width, 0, height - to_height))

    def finish(self, logits: Tensor) -> Tensor:
        """The output, from full-size logits."""
        return logits.argmax(1).to(torch.uint8) if self.output == "labels" else logits

    def dimensions(self) -> dict[str, list[str | int]]:
        """The shapes of input and output; what has a name in place of a number is open."""
        height, width = self.size or ("height", "width")
        labels: list[str | int] = ["batch", height, width]
        logits: list[str | int] = ["batch", self.model.num_classes, height, width]
        return {INPUT: [*labels, 3], self.output: labels if self.output == "labels" else logits}

    def example(self) -> Tensor:
        """A photo to follow. Without a size one whose sides are no multiple of anything, lest a graph rely on it."""
        return torch.zeros(1, *(self.size or (90, 131)), 3, dtype=torch.uint8)


def metadata(model: SegmentationModel, card: ModelCard, output: Output) -> str:
    """What a user of the file needs to know, as JSON: it lies in the file under the key "atrous"."""
    values: dict[str, Any] = {
        "version": atrous.__version__,
        "model": model.config,
        "input": "uint8, batch × height × width × 3, RGB, not normalised",
        "output": {
            "labels": "uint8, batch × height × width: indices of classes",
            "logits": "float32, batch × classes × height × width",
        }[output],
        **replace(card, quantisation=None).to_dict(),
    }
    return json.dumps(values, ensure_ascii=False)
