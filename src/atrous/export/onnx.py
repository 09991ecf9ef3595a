"""ONNX files: written with what they say of themselves, and run by ONNX Runtime."""

from pathlib import Path

import onnx
import onnxruntime
import torch

from atrous.export.compared import Run
from atrous.export.deployed import INPUT, Deployed
from atrous.inference.engines.graph import graph


def write_onnx(deployed: Deployed, about: str, path: Path) -> None:
    """Opset 18; batch, height and width are open, or with a size the batch alone."""
    shapes = deployed.dimensions()
    axes = {name: {i: side for i, side in enumerate(shape) if isinstance(side, str)} for name, shape in shapes.items()}
    model = onnx.load_from_string(graph(deployed, deployed.example(), INPUT, deployed.output, axes))
    # The exporter cannot tell the output's sides, which come out of a crop.
    element = model.graph.output[0].type.tensor_type.elem_type
    named = onnx.helper.make_tensor_value_info(deployed.output, element, shapes[deployed.output])
    model.graph.output[0].CopyFrom(named)
    describe(model, about)
    path.write_bytes(model.SerializeToString())


def describe(model: onnx.ModelProto, about: str) -> None:
    """Puts the metadata into the file."""
    onnx.helper.set_model_props(model, {"atrous": about})
    onnx.checker.check_model(model)


def run_onnx(path: Path) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors: of 8-bit files it warns of every clipping that rounding makes needless
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda photos: session.run(None, {INPUT: photos})[0]
