"""LiteRT files (TFLite's), written by litert-torch where it is installed."""

import copy
from pathlib import Path
from typing import Any

import ai_edge_litert.interpreter
import litert_torch
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrous.export.compared import Photos, Run
from atrous.export.deployed import Deployed
from atrous.layers import ImagePooling


class _Spread(nn.Module):
    """Image pooling that multiplies by ones in place of expanding, which LiteRT's own BROADCAST_TO refuses."""

    def __init__(self, pooling: ImagePooling) -> None:
        super().__init__()
        self.project = pooling.project

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.project(x.mean((2, 3), keepdim=True))
        return pooled * torch.ones_like(x[:, :1])


def write_litert(deployed: Deployed, path: Path) -> None:
    """Of a size that is fixed; the converter takes half a minute."""
    twin = copy.deepcopy(deployed)
    for name, module in list(twin.model.named_modules()):
        if isinstance(module, ImagePooling):
            twin.model.set_submodule(name, _Spread(module))
    with torch.no_grad():
        litert_torch.convert(twin.eval(), (deployed.example(),)).export(str(path))


def run_litert(path: Path) -> Run:
    made = ai_edge_litert.interpreter.Interpreter(str(path), num_threads=torch.get_num_threads())
    made.allocate_tensors()
    (given,), (wanted,) = made.get_input_details(), made.get_output_details()

    def run(photos: Photos) -> NDArray[Any]:
        outputs = []
        for photo in photos:
            made.set_tensor(given["index"], photo[None])
            made.invoke()
            outputs.append(made.get_tensor(wanted["index"])[0])
        return np.stack(outputs)

    return run
