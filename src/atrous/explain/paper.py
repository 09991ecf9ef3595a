"""The page that walks a photo through one paper's model."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.explain.panels import SEQUENTIAL
from atrous.explain.published import PAPERS, Paper
from atrous.explain.receptive_field import Extent
from atrous.explain.walk import Stage, Walk
from atrous.viz import overlay
from atrous.viz.page import Page

_WIDE = 360  # pixels that a map is drawn at


def paper_page(walk: Walk) -> Page:
    """The page on a walk, to be saved with `.save(path)`."""
    paper = PAPERS[walk.paper]
    page = Page(f"A photo in {paper.title}").text(paper.new).text(_about(walk))
    height, width, _ = walk.picture.shape
    page.picture(walk.picture, f"The photo as the network sees it, {height}×{width} pixels")
    page.heading("In numbers")
    page.table(("", "here", "published"), _beside(walk, paper), "This model, and what was printed of it")
    columns = ("mean IoU, % (VOC 2012 val)", "network", "with CRF") if paper.results[0][2] else ("", "mean IoU, %")
    rows = [row[: len(columns)] for row in paper.results]
    page.table(columns, rows, "The paper's results, trained and scored as it describes; not this model's")
    page.table(_HEADER, (_row(stage) for stage in walk.stages), "Every stage on this photo")
    for stage in walk.stages:
        page.heading(stage.title)
        page.text(_sentence(stage))
        pictures = [(_coloured(stage.strength, walk), "how strongly it responds")]
        for number, channel in zip(stage.chosen, stage.examples, strict=True):
            pictures.append((_coloured(channel, walk), f"channel {number}"))
        page.pictures(pictures)
    page.heading("Labels")
    h, w = walk.confidence.shape
    page.text(
        f"The logits, {h}×{w}, are upsampled bilinearly to {walk.padded[0]}×{walk.padded[1]}"
        f"{'' if walk.padded == (height, width) else f', of which {height}×{width} are the photo'}, and the largest of "
        f"the {len(walk.classes)} classes is taken at each pixel."
    )
    if walk.trained:
        shown = overlay(walk.picture, walk.labels, walk.palette)
        page.pictures([(shown, "labels"), (_coloured(walk.confidence, walk), "the winner's probability")])
        page.table(("class", "share of the photo"), _areas(walk))
    else:
        page.text("With random weights there is nothing to see in them, so they are not shown.")
    return page


def _about(walk: Walk) -> str:
    if walk.trained:
        scored = "miou" in walk.scores and "split" in walk.scores
        said = f" Its card says {walk.scores['miou']:.2%} mean IoU on {walk.scores['split']}." if scored else ""
        return f"The model is {walk.model}, with trained weights, at output stride {walk.output_stride}.{said}"
    return (
        f"The model is {walk.model} at output stride {walk.output_stride}. Its weights are RANDOM: sizes, strides, "
        "rates, parameters and receptive fields are the architecture's own, but the maps are those of an "
        "untrained network, and its labels would mean nothing. Name a trained model with --model."
    )


def _beside(walk: Walk, paper: Paper) -> list[tuple[str, str, str]]:
    printed = {what: value for name, what, value in paper.numbers if name == walk.model}
    rows = []
    for title, here, key in (
        ("parameters", f"{walk.parameters:,}", "parameters"),
        ("multiply-adds at 513×513", f"{walk.multiply_adds / 1e9:.2f}B", "multiply-adds"),
    ):
        found = [
            f"{value}{what.removeprefix(key).removeprefix(' at 513×513')}"
            for what, value in printed.items()
            if what.startswith(key)
        ]
        rows.append((title, here, found[0] if found else ""))
    for stage in walk.stages:
        if stage.title.startswith("fc6"):
            view = printed.get("field of view of fc6", "")
            field = f"{view}, with zero padding; 404 counted through all layers of VGG" if view else ""
            rows.append(("receptive field of fc6", _extent(stage.extent), field))
    return rows


def _areas(walk: Walk) -> list[tuple[str, str]]:
    counts = np.bincount(walk.labels.ravel(), minlength=len(walk.classes)) / walk.labels.size
    order = np.argsort(-counts)
    return [(walk.classes[index], f"{counts[index]:.1%}") for index in order if counts[index] >= 0.001]


_HEADER = ("stage", "map", "channels", "stride", "rates of its kernels", "convolutions' parameters", "receptive field")


def _row(stage: Stage) -> tuple[Any, ...]:
    height, width = stage.size
    rates = ", ".join(map(str, stage.rates)) or "1×1 only"
    return (
        stage.title,
        f"{height}×{width}",
        stage.channels,
        stage.stride,
        rates,
        f"{stage.parameters:,}",
        _extent(stage.extent),
    )


def _extent(extent: Extent | None) -> str:
    return "the whole photo" if extent is None else f"{extent[0]}×{extent[1]}"


def _sentence(stage: Stage) -> str:
    height, width = stage.size
    rates = f", kernels at rate {', '.join(map(str, stage.rates))}" if stage.rates else ""
    said = (
        f"{height}×{width} positions of {stage.channels} channels at stride {stage.stride}{rates}; "
        f"each position depends on {_extent(stage.extent)}{' pixels' if stage.extent else ''}."
    )
    if stage.taken_out > 1:
        said += (
            f" It holds a stride of {stage.taken_out} that is taken out here: the map keeps its size, and the "
            "convolutions behind the stride get their rate multiplied by it, which leaves their weights as they were."
        )
    return f"{said} {stage.text}".strip()


def _coloured(values: NDArray[np.float32], walk: Walk) -> NDArray[np.uint8]:
    """A map as colours, from its lowest value to its highest, where it is the photo's; positions stay squares."""
    from matplotlib import colormaps

    (height, width), (padded_height, padded_width) = walk.picture.shape[:2], walk.padded
    h, w = values.shape
    ours = values[: max(1, h * height // padded_height), : max(1, w * width // padded_width)]
    low, high = float(ours.min()), float(ours.max())
    spread = high - low if high - low > 1e-5 * abs(high) else 1.0  # a constant map is not its rounding
    colours = (colormaps[SEQUENTIAL]((values - low) / spread)[..., :3] * 255).astype(np.uint8)
    wide = max(_WIDE, w)
    tall = max(round(wide * height / width), 1)
    whole = round(wide * padded_width / width), max(round(tall * padded_height / height), 1)
    drawn: NDArray[np.uint8] = cv2.resize(colours, whole, interpolation=cv2.INTER_NEAREST).astype(np.uint8)
    return np.ascontiguousarray(drawn[:tall, :wide])
