"""OpenVINO on the CPU."""

import threading
from collections import Counter
from functools import cache, partial
from queue import SimpleQueue
from typing import Literal, TypeAlias

import numpy as np
import openvino
import openvino.opset13 as opset
import torch
from openvino.preprocess import PrePostProcessor
from torch import Tensor

from atrous.inference.lanes import lanes_here

_Idle: TypeAlias = "SimpleQueue[openvino.InferRequest]"

_OFTEN = 64  # photos of a size: on open sizes they have lost about what a graph of their own takes to compile
_OWN_GRAPHS = 8
_SMALL = 1 << 26  # bytes: each graph holds the weights once more, and large networks gain nothing by it

# OpenVINO makes a table at this function's first call, and lets go of Python's lock meanwhile: a second thread that
# comes to it then waits for the table, holding that lock, and the process stands still forever. No thread can come
# here before an import is done.
openvino.Type.f32.to_dtype()


@cache
def core() -> openvino.Core:
    """The one of this process, which stays until its end.

    Its processor's part gives the thread that loads it a stack for signals, if that has one already (as after
    `faulthandler.enable`), and frees it when it goes, also where another thread lets go of it: the next signal would
    end the process.
    """
    return openvino.Core()


class OpenVino:
    """A graph of coarse logits under OpenVINO, with as many threads as torch has here, in each of the lanes.

    Its sizes are open. On a graph for its own size a small photo is a twentieth faster, but to compile one takes some
    half a second: only a size that keeps coming gets it.

    Args:
        graph: ONNX, as `coarse_logits_graph` makes it.
        precision: of what the graph does not round itself.
        steps: where the graph is given uint8 steps, not float32: the size of one, and which of them is 0.
    """

    def __init__(self, graph: bytes, precision: Literal["f32", "bf16"], steps: tuple[float, int] | None = None) -> None:
        self._lanes = lanes_here()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY" if self._lanes == 1 else "THROUGHPUT",
            "NUM_STREAMS": self._lanes,
            "INFERENCE_NUM_THREADS": self._lanes * torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": precision,
            "ENABLE_CPU_PINNING": False,  # the threads that read photos ahead use the same cores
        }
        # Photos come with their channels last, its convolutions want them so, and so does the upsampling that follows.
        prepared = PrePostProcessor(core().read_model(graph))
        for end in (prepared.input(), prepared.output()):
            end.tensor().set_layout(openvino.Layout("NHWC"))
            end.model().set_layout(openvino.Layout("NCHW"))
        if steps:
            prepared.input().tensor().set_element_type(openvino.Type.u8)
            prepared.input().preprocess().custom(partial(_from_steps, *steps))
        self._model = prepared.build()
        self._open = self._compiled(self._model)
        self._own: dict[tuple[int, ...], _Idle] = {}
        self._settling = len(graph) < _SMALL
        self._seen: Counter[tuple[int, ...]] = Counter()
        self._counting = threading.Lock()

    def coarse_logits(self, x: Tensor) -> Tensor:
        """As the `Engine`'s; of uint8 where it was told steps."""
        pixels = x.permute(0, 2, 3, 1).contiguous()
        idle = self._graph_for(tuple(pixels.shape))
        request = idle.get()
        try:
            # Handing `infer` the array would take it a tenth of a millisecond to look at.
            request.set_input_tensor(openvino.Tensor(pixels.numpy(), shared_memory=True))
            # Not torch's copy: its second thread would go on looking for work, on the core that the next photo needs.
            logits = torch.from_numpy(request.infer(share_outputs=True)[0].copy())
        finally:
            idle.put(request)
        return logits.permute(0, 3, 1, 2)

    def _graph_for(self, shape: tuple[int, ...]) -> _Idle:
        if self._settling and shape not in self._own and len(self._own) < _OWN_GRAPHS:
            with self._counting:
                self._seen[shape] += 1
                often = self._seen[shape] == _OFTEN
            if often:  # meanwhile the other lanes go on with open sizes
                model = self._model.clone()
                model.reshape(shape)
                self._own[shape] = self._compiled(model)
        return self._own.get(shape, self._open)

    def _compiled(self, model: openvino.Model) -> _Idle:
        """A request for each lane."""
        compiled = core().compile_model(model, "CPU", self._settings)
        idle: _Idle = SimpleQueue()
        for _ in range(self._lanes):
            idle.put(compiled.create_infer_request())
        return idle


def _from_steps(step: float, zero_point: int, given: openvino.Output) -> openvino.Output:
    """The numbers that uint8 steps stand for, such that what follows computes with the steps.

    OpenVINO 2026.4 does so only behind its own rounding, and takes a rounding of what is uint8 already for none: hence
    `floor`, which changes nothing. All of it is one pass from bytes to bytes.
    """
    ends = (np.float32(end) for end in (0, 255, -zero_point * step, (255 - zero_point) * step))
    rounded = opset.fake_quantize(opset.floor(opset.convert(given, "f32")), *map(opset.constant, ends), 256)
    return rounded.output(0)
