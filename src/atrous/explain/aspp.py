"""What each branch of ASPP gives to a photo's labels (v2, section 3.2; v3, section 3.3).

v2 sums its branches' scores, so a branch's part in the winning class's score is that class's score in the branch. v3
and v3+ concatenate and go on; there the part is the gradient of the winning score times the branch's output, added
over the branch's channels. A network of ReLUs is linear around a photo, so the parts of all branches are the whole
score but for what biases and a decoder's low-level features give; for v2 the two are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrous.data import ImageSource
from atrous.errors import AtrousError
from atrous.explain.opening import at_one_scale
from atrous.explain.panels import SIGNED, largest, show
from atrous.explain.photo import prepare
from atrous.inference import Predictor
from atrous.layers import ASPP
from atrous.models import SegmentationModel
from atrous.ops import upsample_argmax
from atrous.viz import overlay, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Branch:
    """One branch of ASPP on a photo.

    Attributes:
        name: "1×1", "rate 12", "image pooling".
        strength: h×w, the root mean square over channels of its output.
        part: h×w, what it gives to the winning classes' scores from each position (v2: to the score there).
        changed: the share of the photo whose label changes when the branch is silenced.
    """

    name: str
    strength: NDArray[np.float32]
    part: NDArray[np.float32]
    changed: float


@dataclass(frozen=True)
class ASPPResponse:
    """Every branch of ASPP on a photo.

    Attributes:
        picture: the photo, uint8 H×W×3.
        labels: uint8 H×W.
        palette: of the labels.
        score: the sum of the winning classes' scores over all positions.
        branches: from the nearest to the widest.
    """

    picture: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    palette: tuple[tuple[int, int, int], ...]
    score: float
    branches: tuple[Branch, ...]

    def numbers(self) -> dict[str, Any]:
        return {
            "branches": [
                {
                    "name": branch.name,
                    "mean_strength": float(branch.strength.mean()),
                    "share_of_score": float(branch.part.sum(dtype=np.float64)) / self.score,
                    "labels_changed_without": branch.changed,
                }
                for branch in self.branches
            ]
        }

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "labels": self.labels,
            "strength": np.stack([branch.strength for branch in self.branches]),
            "part": np.stack([branch.part for branch in self.branches]),
            "names": np.array([branch.name for branch in self.branches]),
        }

    def plot(self) -> "Figure":
        """A column a branch: how strongly it responds, and what it gives for (red) or against (blue) the labels."""
        columns = len(self.branches) + 1
        height, width = self.labels.shape
        tall = 2.2 * height / width
        figure = plots.figure(2.2 * columns + 0.8, 2 * tall + 1.4)
        panels = figure.subplots(2, columns)
        show(panels[0, 0], overlay(self.picture, self.labels, self.palette), "labels")
        show(panels[1, 0], self.picture, "the photo")
        strongest = max(largest(branch.strength) for branch in self.branches)
        most = max(largest(branch.part) for branch in self.branches)
        for column, branch in enumerate(self.branches, 1):
            strength = show(panels[0, column], branch.strength, branch.name, vmin=0, vmax=strongest)
            share = float(branch.part.sum(dtype=np.float64)) / self.score
            title = f"{share:+.0%} of the score;\nwithout it {branch.changed:.1%} change"
            part = show(panels[1, column], branch.part, title, vmin=-most, vmax=most, cmap=SIGNED)
        figure.colorbar(strength, ax=list(panels[0]), label="response")
        figure.colorbar(part, ax=list(panels[1]), label="for the label")
        return figure


def aspp_response(
    predictor: Predictor, photo: ImageSource, progress: Callable[[float], None] = lambda share: None
) -> ASPPResponse:
    """Runs a photo through the model and takes its ASPP apart; a side above 1025 pixels is made smaller.

    A model that runs at several scales is run at one.

    Args:
        progress: called with the share that is done since the last call, 1.0 in all.

    Raises:
        AtrousError: a model without ASPP, or a photo that cannot be read.
    """
    model = at_one_scale(predictor.model)
    modules = branches_of(model)
    seen = prepare(predictor, photo)
    height, width, _ = seen.picture.shape
    padded = seen.tensor.shape[-2], seen.tensor.shape[-1]

    def labels_of(logits: Tensor) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = upsample_argmax(logits, padded, model.align_corners, crop=(height, width))[0].numpy(
            force=True
        )
        return found

    outputs: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(_keeping(outputs, name)) for name, module in modules.items()]
    try:
        logits = model.coarse_logits(seen.tensor)
    finally:
        for hook in hooks:
            hook.remove()
    score = logits.amax(1).sum()
    parts = torch.autograd.grad(score, list(outputs.values()))
    labels = labels_of(logits.detach())
    progress(1 / (len(modules) + 1))
    branches = []
    for (name, output), part in zip(outputs.items(), parts, strict=True):
        silent = modules[name].register_forward_hook(lambda _module, _in, out: torch.zeros_like(out))
        try:
            with torch.inference_mode():
                changed = float(np.mean(labels_of(model.coarse_logits(seen.tensor)) != labels))
        finally:
            silent.remove()
        strength = output.detach()[0].square().mean(0).sqrt()
        given = (part * output.detach())[0].sum(0)
        branches.append(Branch(name, strength.numpy(force=True), given.numpy(force=True), changed))
        progress(1 / (len(modules) + 1))
    return ASPPResponse(seen.picture, labels, tuple(predictor.card.palette), float(score.detach()), tuple(branches))


def branches_of(model: SegmentationModel) -> dict[str, nn.Module]:
    """The branches of a model's ASPP by name: its 1×1, its rates, image pooling.

    Raises:
        AtrousError: the model has none.
    """
    aspp = getattr(model, "aspp", None)
    if isinstance(aspp, ASPP):
        atrous = {f"rate {rate}": branch for rate, branch in zip(aspp.rates, aspp.atrous, strict=True)}
        pooling = {} if aspp.image_pooling is None else {"image pooling": aspp.image_pooling}
        return {"1×1": aspp.pointwise, **atrous, **pooling}
    if isinstance(aspp, nn.ModuleList):
        return {f"rate {rate}": branch for rate, branch in zip(model.rates, aspp, strict=True)}  # type: ignore[arg-type]
    name = model.config.get("name", type(model).__name__)
    raise AtrousError(f"{name} has no ASPP: take a model of v2, v3 or v3+")


def _keeping(outputs: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        # The gradient is wanted from here on; what lies before need not be kept for it.
        outputs[name] = output.detach().clone().requires_grad_()
        return outputs[name]

    return keep
