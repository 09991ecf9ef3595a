"""v1 (arXiv 1412.7062) and v2 (arXiv 1606.00915): fields of view, ASPP and the CRF."""

from collections.abc import Iterator, Sequence
from typing import Any

from atrous.ablation.experiment import Experiment, Judgement, Row
from atrous.ablation.tables.settings import R101, V2_RECIPE, VGG, options

CRF = "voc"


def _without_and_with_crf(forms: Sequence[tuple[str, dict[str, Any], dict[str, tuple[float, float]]]]) -> Iterator[Row]:
    """Each form as it is, then each behind the CRF; the numbers of a backbone are (without, with)."""
    for after, group in enumerate(("without CRF", "with CRF")):
        for name, changes, mious in forms:
            paper = {backbone: both[after] for backbone, both in mious.items()}
            yield Row(name, group, changes, Judgement(crf=CRF if after else None), paper)


V1_LARGEFOV = Experiment(
    "v1-largefov",
    "Which kernel and rate should the first fully connected layer become?",
    "v1, field-of-view table; v2, table 1",
    ("deeplabv1_{}",),
    tuple(
        _without_and_with_crf(
            [
                ("7×7 at rate 4", options(fc6_kernel=7), {VGG: (64.38, 67.64)}),
                ("4×4 at rate 4", options(fc6_kernel=4), {VGG: (59.80, 63.74)}),
                ("4×4 at rate 8", options(fc6_kernel=4, fc6_rate=8), {VGG: (63.41, 67.14)}),
                (
                    "3×3 at rate 12",
                    options(fc6_kernel=3, pooling="3x3", average_pool5=True),
                    {VGG: (62.25, 67.64)},
                ),
            ]
        )
    ),
    backbone=VGG,
    recipe=V2_RECIPE,
    changes={"model.output_stride": 8},
    setting="stepwise learning rate, 6,000 steps of 20 or 30",
)

V2_ASPP = Experiment(
    "v2-aspp",
    "One atrous branch or four, and at which rates?",
    "v2, table 3",
    ("deeplabv2_{}", "deeplabv2_{}_aspp"),
    tuple(
        _without_and_with_crf(
            [
                ("LargeFOV", options(aspp_rates="LargeFOV"), {VGG: (65.76, 69.84)}),
                ("ASPP-S", options(aspp_rates="S"), {VGG: (66.98, 69.73)}),
                ("ASPP-L", options(aspp_rates="L"), {VGG: (68.96, 71.57)}),
            ]
        )
    ),
    backbone=VGG,
    recipe=V2_RECIPE,
    changes={"model.output_stride": 8},
)

CRF_ON_AND_OFF = Experiment(
    "crf",
    "What does the fully connected CRF add?",
    "v2, tables 3 and 4",
    ("deeplabv2_{}", "deeplabv2_{}_aspp", "deeplabv3plus_{}"),
    (
        Row("as it is", paper={R101: 76.35, VGG: 68.96}),
        Row("with CRF", judgement=Judgement(crf=CRF), paper={R101: 77.69, VGG: 71.57}),
    ),
    recipe=V2_RECIPE,
    setting="ResNet-101 with multi-scale inputs and pretrained on COCO",
)
