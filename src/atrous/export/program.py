"""torch's own files: a graph without its Python code, for `torch.export.load` and AOTInductor."""

import io
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from atrous.export.compared import Photos, Run
from atrous.export.deployed import Deployed


def write_program(deployed: Deployed, about: str, path: Path) -> None:
    """With dynamic sizes it takes some ten seconds."""
    dynamic = torch.export.Dim.DYNAMIC
    axes = {0: dynamic} if deployed.size else {0: dynamic, 1: dynamic, 2: dynamic}
    photo = deployed.example().expand(2, -1, -1, -1).contiguous()  # torch.export takes a batch of one for a constant
    with torch.no_grad():
        program = torch.export.export(deployed, (photo,), dynamic_shapes=(axes,))
    content = io.BytesIO()  # on a full disk torch's own writer ends the program
    torch.export.save(program, content, extra_files={"atrous.json": about})
    path.write_bytes(content.getbuffer())


def run_program(path: Path) -> Run:
    module = torch.export.load(path).module()

    def run(photos: Photos) -> NDArray[Any]:
        with torch.inference_mode():
            labels: torch.Tensor = module(torch.from_numpy(photos))
        return labels.numpy()

    return run
