"""ONNX Runtime on the CPU."""

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from atrous.inference.engines.graph import coarse_logits_graph
from atrous.inference.engines.still import still
from atrous.models import SegmentationModel


class OnnxRuntime:
    """The coarse logits under ONNX Runtime, with as many threads as torch has."""

    def __init__(self, model: SegmentationModel) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Else its threads would spin on beside the upsampling that follows.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        graph = coarse_logits_graph(still(model))
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def coarse_logits(self, x: Tensor) -> Tensor:
        (logits,) = self._session.run(None, {"x": np.ascontiguousarray(x.numpy())})
        return torch.from_numpy(logits)
