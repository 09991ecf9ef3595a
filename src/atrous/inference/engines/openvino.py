"""OpenVINO on the CPU."""

import threading
from typing import Literal

import openvino
import torch
from openvino.preprocess import PrePostProcessor
from torch import Tensor


class OpenVino:
    """A graph of coarse logits under OpenVINO, with as many threads as torch has.

    Sizes are dynamic: a graph compiled for each size is no more than a tenth faster, and takes half a second each.

    Args:
        graph: ONNX, as `coarse_logits_graph` makes it.
        precision: of what the graph does not round itself.
    """

    def __init__(self, graph: bytes, precision: Literal["f32", "bf16"]) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # the threads that read photos ahead use the same cores
        }
        core = openvino.Core()
        # Photos come with their channels last, and its convolutions want them so.
        prepared = PrePostProcessor(core.read_model(graph))
        prepared.input().tensor().set_layout(openvino.Layout("NHWC"))
        prepared.input().model().set_layout(openvino.Layout("NCHW"))
        self._request = core.compile_model(prepared.build(), "CPU", settings).create_infer_request()
        self._one_at_a_time = threading.Lock()

    def coarse_logits(self, x: Tensor) -> Tensor:
        with self._one_at_a_time:
            return torch.from_numpy(self._request.infer([x.permute(0, 2, 3, 1).contiguous().numpy()])[0])
