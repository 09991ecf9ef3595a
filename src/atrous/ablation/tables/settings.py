"""What the tables share: the papers' recipes, and rows of several kinds."""

from collections.abc import Iterator, Sequence
from typing import Any

from atrous.ablation.experiment import Judgement, Row

R50, R101, VGG, XCEPTION = "resnet50", "resnet101", "vgg16", "xception65"

# Section 4 of each paper: 30K steps of 16 and 20K of 10 on trainaug's 10,582 photos.
V3_RECIPE = {"schedule.epochs": 45, "optimizer.weight_decay": 1e-4}
V2_RECIPE = {
    "schedule.epochs": 19,
    "batch_size": 10,
    "optimizer.lr": 1e-3,
    "optimizer.weight_decay": 5e-4,
    "augment.crop": [321, 321],
    "augment.scale": [0.5, 1.5],
}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def options(**chosen: Any) -> dict[str, Any]:
    """Changes of a recipe that are options of its model."""
    return {f"model.options.{name}": value for name, value in chosen.items()}


def grid(rates: Sequence[int]) -> str:
    """(1, 2, 4), as a row is called."""
    return f"({', '.join(map(str, rates))})"


def strategies(mious: Sequence[dict[str, float]], strides: Sequence[int]) -> Iterator[Row]:
    """One model, judged at each output stride alone, then at several scales, then mirrored too.

    A way without a number is no row.
    """
    following = iter(mious)
    for stride in strides:
        for added, scales, flip in (
            ("", (1.0,), False),
            (" + scales", SCALES, False),
            (" + scales + flip", SCALES, True),
        ):
            paper = next(following)
            if paper:
                yield Row(f"output stride {stride}{added}", judgement=Judgement(stride, scales, flip), paper=paper)
