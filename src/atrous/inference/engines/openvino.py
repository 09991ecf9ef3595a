"""OpenVINO on the CPU."""

import threading
from typing import Literal

import openvino
import torch
from torch import Tensor

from atrous.inference.engines.graph import coarse_logits_graph
from atrous.inference.engines.still import still
from atrous.models import SegmentationModel


class OpenVino:
    """The coarse logits under OpenVINO, with as many threads as torch has.

    Sizes are dynamic: a graph compiled for each size is no more than a tenth faster, and takes half a second each.
    """

    def __init__(self, model: SegmentationModel, precision: Literal["f32", "bf16"]) -> None:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # the threads that read photos ahead use the same cores
        }
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(coarse_logits_graph(still(model))), "CPU", settings)
        self._request = compiled.create_infer_request()
        self._one_at_a_time = threading.Lock()

    def coarse_logits(self, x: Tensor) -> Tensor:
        with self._one_at_a_time:
            return torch.from_numpy(self._request.infer([x.contiguous().numpy()])[0])
