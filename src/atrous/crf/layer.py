"""The CRF as a layer that is trained with the network before it (Zheng et al., "CRF as RNN", 2015)."""

import torch
from torch import Tensor, nn

from atrous.crf.dense import bilateral_features, check_iterations, feature_kernel, spatial_kernel
from atrous.crf.params import CRFParams


class CRFAsRNN(nn.Module):
    """Mean-field inference unrolled: gradients flow to the logits, the kernels' weights and the compatibility.

    Args:
        num_classes: K.
        params: the kernels' widths, which stay, and the weights' first values; the papers' for VOC if not given.
        iterations: the paper trains with 5 and tests with 10.

    Attributes:
        weights: 2×K: how much each label listens to the spatial and to the bilateral kernel.
        compatibility: K×K: what a pixel of label k pays for one of label l; Potts' model at first.
    """

    def __init__(self, num_classes: int, params: CRFParams | None = None, iterations: int = 5) -> None:
        super().__init__()
        check_iterations(iterations)
        self.params = params or CRFParams()
        self.iterations = iterations
        first = torch.tensor([[self.params.gaussian_weight], [self.params.bilateral_weight]], dtype=torch.float32)
        self.weights = nn.Parameter(first.expand(2, num_classes).clone())
        self.compatibility = nn.Parameter(-torch.eye(num_classes))

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        """Logits N×K×H×W and the photos N×H×W×3 (0..255, as they were read) to logits whose softmax is Q."""
        params = self.params
        ones = torch.ones_like(logits[:, :1]).detach()
        features = bilateral_features(images, params.bilateral_sxy, params.bilateral_srgb, logits.dtype)
        kernels = spatial_kernel(ones, params.gaussian_sxy), feature_kernel(ones, features)
        refined = logits
        for _ in range(self.iterations):
            q = refined.softmax(1)
            messages = sum(w[:, None, None] * kernel(q) for w, kernel in zip(self.weights, kernels, strict=True))
            refined = logits - torch.einsum("kl,nlhw->nkhw", self.compatibility, messages)
        return refined
