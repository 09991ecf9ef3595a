"""A model as an ONNX graph, which every other runtime here reads.

Made by torch's older exporter, which follows one run of the model, deliberately: for these networks it takes 1 to 3
seconds, where the one built on `torch.export` takes 40 to 50 with dynamic sizes. A run's graph holds for the sizes
that take the same branches in the model's Python code, such as where "same" padding counts odd and even sides; with
sides as `Network.padded` makes them, all do.
"""

import io
import threading
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models import MultiScale, SegmentationModel

OPSET = 18
_ONE_AT_A_TIME = threading.Lock()  # the exporter's state is global


class CoarseLogits(nn.Module):
    """`model.coarse_logits` as a module's forward."""

    def __init__(self, model: SegmentationModel) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.model.coarse_logits(x)


def example(model: SegmentationModel) -> Tensor:
    """A normalised and padded photo of few pixels, by which a graph is made."""
    stride, extra = model.output_stride, model.extra_pixels
    return torch.zeros((1, 3, 6 * stride + extra, 8 * stride + extra), dtype=torch.float32, device="cpu")


def coarse_logits_graph(model: SegmentationModel) -> bytes:
    """The graph "x", padded N×3×H×W, to "logits", N×K×h×w, for any N, H and W."""
    axes = {"x": {0: "n", 2: "height", 3: "width"}}
    return graph(CoarseLogits(model), example(model), "x", "logits", axes)


def graph(module: nn.Module, x: Tensor, given: str, wanted: str, axes: Mapping[str, Mapping[int, str]]) -> bytes:
    """A module of one input and one output as an ONNX file.

    Args:
        module: on the CPU, in evaluation mode, in float32.
        x: an input to follow.
        given, wanted: names of the input and of the output.
        axes: their dimensions that may differ from x's, with names.

    Raises:
        AtrousError: the model's sizes depend on each other in a way that no graph of one run shows.
    """
    if any(isinstance(part, MultiScale) for part in module.modules()):
        raise AtrousError("a model with multi_scale runs on torch alone: take its `single`, and scales=… in predicting")
    file = io.BytesIO()
    exact = torch.autocast("cpu", enabled=False)
    with _ONE_AT_A_TIME, torch.inference_mode(False), torch.no_grad(), exact, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            file,  # type: ignore[arg-type]  # which the older exporter takes
            dynamo=False,
            opset_version=OPSET,
            input_names=[given],
            output_names=[wanted],
            dynamic_axes={name: dict(dimensions) for name, dimensions in axes.items()},
        )
    return file.getvalue()
