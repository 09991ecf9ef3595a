"""OpenVINO with 8-bit integers, for models that were trained or calibrated for them."""

from dataclasses import replace

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.inference.engines.folding import folded
from atrous.inference.engines.graph import coarse_logits_graph, example
from atrous.inference.engines.openvino import OpenVino
from atrous.inference.engines.parts import pooled_in_parts, steps_in_parts
from atrous.inference.engines.quantised import from_steps, refuse_unknown, rounded, to_steps
from atrous.models import SegmentationModel
from atrous.weights.quantisation import INPUT, Quantisation

_FURTHEST = 0.3  # from torch, in norm; it leaves out roundings before additions, which makes some hundredths


class OpenVinoInt8(OpenVino):
    """The coarse logits of a model that is `rounded`, in integers.

    Raises:
        AtrousError: other logits than torch's, which a runtime with open sizes and 8 bits has been seen to give.
    """

    def __init__(self, model: SegmentationModel, quantisation: Quantisation) -> None:
        refuse_unknown(quantisation, model)
        twin = pooled_in_parts(folded(model))
        self._steps = quantisation.activations.get(INPUT)
        behind = {name: step for name, step in quantisation.activations.items() if name != INPUT}
        rounded(twin, steps_in_parts(replace(quantisation, activations=behind), twin))
        super().__init__(coarse_logits_graph(twin), "f32", self._steps)
        with torch.inference_mode():
            x = torch.randn(example(model).shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
            if self._steps:
                x = from_steps(to_steps(x, *self._steps), *self._steps)
            expected = twin.coarse_logits(x)
            distance = float((self.coarse_logits(x) - expected).norm() / expected.norm())
        if not distance <= _FURTHEST:
            raise AtrousError(
                f"engine 'openvino-int8': this OpenVINO gives logits that are off by {distance:.0%}: "
                "give engine='openvino'"
            )

    def coarse_logits(self, x: Tensor) -> Tensor:
        """Also of uint8 N×3×H×W: x in the steps of the quantisation's input, if it has them."""
        if self._steps and x.dtype != torch.uint8:
            x = to_steps(x, *self._steps)
        return super().coarse_logits(x)
