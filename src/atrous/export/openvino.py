"""OpenVINO's own files: NAME.xml, the graph, and NAME.bin, its weights beside it."""

from pathlib import Path

import openvino

from atrous.export.compared import Run
from atrous.inference.engines.openvino import core


def write_openvino(graph: Path, about: str, path: Path) -> None:
    """From an ONNX file; weights stay in float32."""
    model = core().read_model(graph)
    model.set_rt_info(about, ["atrous"])
    openvino.save_model(model, path, compress_to_fp16=False)


def run_openvino(path: Path) -> Run:
    compiled = core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda photos: compiled(photos)[0]
