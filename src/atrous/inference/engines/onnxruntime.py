"""ONNX Runtime on the CPU."""

import onnxruntime
import torch
from torch import Tensor, nn

from atrous.inference.engines.graph import CoarseLogits, example, graph
from atrous.inference.engines.still import still
from atrous.models import SegmentationModel


class OnnxRuntime:
    """The coarse logits under ONNX Runtime, with as many threads as torch has."""

    def __init__(self, model: SegmentationModel) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Else its threads would spin on beside the upsampling that follows.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        network = _ChannelsLast(CoarseLogits(still(model)))
        axes = {name: {0: "n", 1: f"{name}_height", 2: f"{name}_width"} for name in ("x", "logits")}
        exported = graph(network, example(model).permute(0, 2, 3, 1), "x", "logits", axes)
        self._session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])

    def coarse_logits(self, x: Tensor) -> Tensor:
        (logits,) = self._session.run(None, {"x": x.permute(0, 2, 3, 1).contiguous().numpy()})
        return torch.from_numpy(logits).permute(0, 3, 1, 2)


class _ChannelsLast(nn.Module):
    """As photos come and upsampling wants them. In torch either copy would wake its threads beside the runtime's."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x.permute(0, 3, 1, 2))
        return logits.permute(0, 2, 3, 1)
