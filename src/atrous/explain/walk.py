"""A photo's walk through one paper's model, stage by stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.data import ImageSource
from atrous.errors import AtrousError
from atrous.explain.dependence import Dependence
from atrous.explain.layers import outputs_of
from atrous.explain.opening import at_one_scale, open_predictor
from atrous.explain.photo import prepare
from atrous.explain.published import PAPERS
from atrous.explain.receptive_field import Extent, extents
from atrous.explain.stages import Part, parts_of
from atrous.models import Layer, describe
from atrous.ops import upsample_argmax

_EXAMPLES = 3  # channels shown of each stage


@dataclass(frozen=True)
class Stage:
    """What a photo is after a stage.

    Attributes:
        size: (height, width) of the map.
        channels: of it.
        stride: pixels of the photo a position.
        taken_out: the stride that was turned into a rate here; 1 is none.
        rates: of its convolutions of more than 1×1, each once.
        parameters: of its convolutions.
        extent: (height, width) in pixels of the theoretical receptive field; None is the whole photo.
        strength: h×w, the root mean square over channels.
        chosen: the channels that differ most over the photo.
        examples: those channels, n×h×w.
    """

    title: str
    text: str
    size: tuple[int, int]
    channels: int
    stride: int
    taken_out: int
    rates: tuple[int, ...]
    parameters: int
    extent: Extent | None
    strength: NDArray[np.float32]
    chosen: tuple[int, ...]
    examples: NDArray[np.float32]


@dataclass(frozen=True)
class Walk:
    """The whole way of a photo through a model.

    Attributes:
        paper: "v1", "v2", "v3" or "v3plus".
        model: the architecture's name.
        trained: whether the weights are any but random.
        classes, palette: of the labels.
        parameters: batch norm included.
        multiply_adds: at 513×513.
        padded: (height, width) that the network saw, the photo in its top left.
        labels: uint8 H×W.
        confidence: float32 h×w, the winning class's probability at each position of the coarse logits.
        scores: what the weights' card says of them, e.g. {"miou": …, "split": …}.
    """

    paper: str
    model: str
    trained: bool
    output_stride: int
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    parameters: int
    multiply_adds: int
    picture: NDArray[np.uint8]
    padded: tuple[int, int]
    stages: tuple[Stage, ...]
    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    scores: dict[str, Any]

    def numbers(self) -> dict[str, Any]:
        """Plain values, as JSON holds them."""
        return {
            "paper": self.paper,
            "model": self.model,
            "trained": self.trained,
            "output_stride": self.output_stride,
            "parameters": self.parameters,
            "multiply_adds_at_513": self.multiply_adds,
            "stages": [
                {
                    "title": stage.title,
                    "size": list(stage.size),
                    "channels": stage.channels,
                    "stride": stage.stride,
                    "rates": list(stage.rates),
                    "parameters": stage.parameters,
                    "receptive_field": list(stage.extent) if stage.extent else None,
                }
                for stage in self.stages
            ],
        }


def explain_paper(
    paper: str,
    photo: ImageSource,
    model: str | Path | None = None,
    *,
    longest: int = 513,
    progress: Callable[[float], None] = lambda share: None,
) -> Walk:
    """Walks a photo through a paper's model.

    Args:
        paper: "v1", "v2", "v3" or "v3plus".
        model: trained weights as for `atrous.load`, or an architecture's name, which gets random weights; if not
            given, "street" for v3+ and an architecture of the paper's for the others.
        longest: a photo with a longer side is made smaller.
        progress: called with the share that is done since the last call, 1.0 in all.

    Raises:
        AtrousError: another paper, a model that is not of the paper, or a photo that cannot be read.
    """
    if paper not in PAPERS:
        raise AtrousError(f"no paper {paper!r}: give one of {', '.join(PAPERS)}")
    predictor, trained = open_predictor(PAPERS[paper].model if model is None else model)
    network = at_one_scale(predictor.model)
    name = str(network.config.get("name", type(network).__name__))
    if not network.paper.startswith(PAPERS[paper].mark):
        raise AtrousError(f"{model or name} is a model of {network.paper or 'no paper'}, not of {paper}: name another")
    seen = prepare(predictor, photo, longest)
    progress(0.1)
    parts = parts_of(network)
    with torch.inference_mode():
        outputs = outputs_of(network, seen.tensor, [part.layer for part in parts])
    logits = outputs[""]
    padded = seen.tensor.shape[-2], seen.tensor.shape[-1]
    crop = seen.picture.shape[0], seen.picture.shape[1]
    labels = upsample_argmax(logits, padded, network.align_corners, crop=crop)[0].numpy(force=True)
    progress(0.3)
    fields, strides = extents(network, outputs), Dependence(network).strides(outputs)
    progress(0.4)
    layers = describe(network, padded).layers
    stages = _stages(parts, outputs, fields, strides, layers)
    description = describe(network)
    progress(0.2)
    return Walk(
        paper=paper,
        model=name,
        trained=trained,
        output_stride=network.output_stride,
        classes=predictor.classes,
        palette=tuple(predictor.card.palette),
        parameters=description.parameters,
        multiply_adds=description.multiply_adds,
        picture=seen.picture,
        padded=padded,
        stages=tuple(stages),
        labels=labels,
        confidence=logits.softmax(1).amax(1)[0].numpy(force=True),
        scores=dict(predictor.card.provenance.get("scores", {})),
    )


def _stages(
    parts: Sequence[Part],
    outputs: dict[str, torch.Tensor],
    fields: dict[str, Extent | None],
    strides: dict[str, int],
    layers: Sequence[Layer],
) -> list[Stage]:
    stages = []
    before = 1
    for part in parts:
        output = outputs[part.layer][0].float()
        held = [layer for layer in layers if _within(layer.name, part.holds)]
        stride = strides[part.layer]
        variances = output.flatten(1).var(1, correction=0).nan_to_num()
        chosen = variances.topk(min(_EXAMPLES, len(output))).indices
        stages.append(
            Stage(
                title=part.title,
                text=part.text,
                size=(output.shape[1], output.shape[2]),
                channels=output.shape[0],
                stride=stride,
                taken_out=max(part.nominal_stride * before // max(stride, 1), 1) if part.nominal_stride > 1 else 1,
                rates=tuple(dict.fromkeys(layer.rate for layer in held if layer.kernel_size > 1)),
                parameters=sum(layer.parameters for layer in held),
                extent=fields[part.layer],
                chosen=tuple(chosen.tolist()),
                strength=output.square().mean(0).sqrt().numpy(force=True),
                examples=output[chosen].numpy(force=True),
            )
        )
        before = stride
    return stages


def _within(layer: str, names: Sequence[str]) -> bool:
    return any(layer == name or layer.startswith(f"{name}.") for name in names)
