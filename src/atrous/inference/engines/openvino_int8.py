"""OpenVINO with 8-bit integers, for models that were trained or calibrated for them."""

import torch

from atrous.errors import AtrousError
from atrous.inference.engines.graph import coarse_logits_graph, example
from atrous.inference.engines.openvino import OpenVino
from atrous.inference.engines.quantised import quantised
from atrous.models import SegmentationModel
from atrous.weights.quantisation import Quantisation

_FURTHEST = 0.3  # from torch, in norm; it leaves out roundings before additions, which makes some hundredths


class OpenVinoInt8(OpenVino):
    """The coarse logits of `quantised`, in integers.

    Raises:
        AtrousError: other logits than torch's, which a runtime with open sizes and 8 bits has been seen to give.
    """

    def __init__(self, model: SegmentationModel, quantisation: Quantisation) -> None:
        twin = quantised(model, quantisation)
        super().__init__(coarse_logits_graph(twin), "f32")
        with torch.inference_mode():
            x = torch.randn(example(model).shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
            expected = twin.coarse_logits(x)
            distance = float((self.coarse_logits(x) - expected).norm() / expected.norm())
        if not distance <= _FURTHEST:
            raise AtrousError(
                f"engine 'openvino-int8': this OpenVINO gives logits that are off by {distance:.0%}: "
                "give engine='openvino'"
            )
