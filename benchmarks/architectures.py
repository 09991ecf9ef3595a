"""The table of docs/architectures.md: what every architecture costs, beside what was published.

    python benchmarks/architectures.py > docs/architectures.md

Parameters and multiply-adds are exact counts, not timings. `tests/models` holds the same numbers.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from atrous.models import create_model, describe, list_models

HEAD = """# Architectures

Written by `python benchmarks/architectures.py`. Parameters are those of 21 classes, batch norm's scale and shift
included. Multiply-adds, in 10⁹, are of the convolutions up to the coarse logits, at the architecture's own output
stride and 513 × 513 unless the row says otherwise. "Published" is what the papers, their released models' tables or
torchvision print. `atrous models --architectures` shows the first table for any size; `atrous.describe(model)` gives
every layer with its true rate.

## By name
"""

CHECKED = """
## Against what was published

| architecture | at | parameters | published | multiply-adds | published |
|---|---|---|---|---|---|"""

FOOT = """
Where a plain 3×3 convolution runs at a rate (the last two rows), the papers' count is higher. The likely reason:
TensorFlow carries atrous convolution out by cutting the map into its phases (space to batch) and pads each of them, and
the padding was counted. 58.16M is ResNet-101 with the "beta" stem of three 3×3 convolutions; with the 7×7 stem it has
58.04M. torchvision's counts include the auxiliary head, 9.99 of them, which does not run in prediction.
"""


@dataclass(frozen=True)
class Row:
    """An architecture somewhere in the literature, and what was printed there."""

    name: str
    parameters: str = ""
    multiply_adds: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    output_stride: int | None = None
    classes: int = 21
    size: int | tuple[int, int] = 513


ROWS = [
    Row("deeplabv1_vgg16", "134.3M (v1, FOV table)"),
    Row("deeplabv1_vgg16", "65.1M (v1, FOV table)", options={"fc6_kernel": 4}),
    Row("deeplabv1_vgg16_largefov", "20.5M (v1, FOV table)"),
    Row("deeplabv3_mobilenet_v2", "2.11M (MobileNetV2, table 7)", "2.75 (model zoo)"),
    Row("deeplabv3_mobilenet_v2_050", "", "0.88 (model zoo)"),
    Row("deeplabv3_mobilenet_v2_050", "", "2.84 (model zoo)", output_stride=8),
    Row("deeplabv3_mobilenet_v2", "", "21.27 (model zoo)", classes=19, size=(1025, 2049)),
    Row("deeplabv3_mobilenet_v2", "4.52M (MobileNetV2, table 7)", "", {"aspp_rates": (6, 12, 18)}),
    Row("deeplabv3plus_xception65", "", "54.17 (v3+, table 5)"),
    Row("deeplabv3plus_xception65", "", "177.10 (v3+, table 5)", output_stride=8),
    Row("deeplabv3plus_xception65", "", "418.64 (model zoo)", classes=19, size=(1025, 2049)),
    Row("torchvision_deeplabv3_resnet50", "42,004,074", "178.72", {"aux": True}, size=520),
    Row("torchvision_deeplabv3_resnet101", "60,996,202", "258.74", {"aux": True}, size=520),
    Row("vainf_deeplabv3_mobilenet_v2", "", "6.0 (VainF)"),
    Row("vainf_deeplabv3_resnet50", "", "51.4 (VainF)"),
    Row("vainf_deeplabv3_resnet101", "", "72.1 (VainF)"),
    Row("vainf_deeplabv3plus_mobilenet_v2", "", "17.0 (VainF)"),
    Row("vainf_deeplabv3plus_resnet50", "", "62.7 (VainF)"),
    Row("vainf_deeplabv3plus_resnet101", "", "83.4 (VainF)"),
    Row("deeplabv3_xception65", "", "68.00 (v3+, table 5)"),
    Row("deeplabv3_resnet101", "58.16M (MobileNetV2, table 7)", "81.02 (v3+, table 3)", {"stem": "beta"}),
]


def main() -> None:
    print(HEAD)
    print("| architecture | paper | parameters | multiply-adds | output stride | held by the tests to |")
    print("|---|---|---|---|---|---|")
    for name in list_models():
        with torch.device("meta"):
            d = describe(create_model(name))
        costs = f"{d.parameters:,} | {d.multiply_adds / 1e9:.2f} | {d.output_stride}"
        print(f"| `{d.name}` | {d.paper} | {costs} | {d.verified} |")
    print(CHECKED)
    for row in ROWS:
        with torch.device("meta"):
            d = describe(create_model(row.name, row.classes, row.output_stride, **row.options), row.size)
        notes = [f"{key}={value}" for key, value in row.options.items()]
        notes += [f"output stride {d.output_stride}", f"{d.size[1]} × {d.size[0]}"]
        print(
            f"| `{row.name}` | {', '.join(notes)} | {d.parameters:,} | {row.parameters} "
            f"| {d.multiply_adds / 1e9:.2f} | {row.multiply_adds} |"
        )
    print(FOOT, end="")


if __name__ == "__main__":
    main()
