"""v3+ (arXiv 1802.02611): the decoder, and strategies of running a model."""

from atrous.ablation.experiment import Experiment, Row
from atrous.ablation.tables.settings import R101, V3_RECIPE, XCEPTION, options, strategies

V3PLUS_DECODER = Experiment(
    "v3plus-decoder",
    "How many low-level channels does a decoder need, and which convolutions behind them?",
    "v3+, tables 1 and 2",
    ("deeplabv3plus_{}",),
    (
        *(
            Row(
                f"{channels} channels",
                "low-level channels",
                options(low_level_channels=channels, decoder_depth=1),
                paper={R101: miou},
            )
            for channels, miou in ((48, 78.21), (8, 77.61), (16, 77.92), (32, 78.16), (64, 77.94))
        ),
        Row("3×3×256", "form", options(low_level_channels=48, decoder_depth=1), paper={R101: 78.21}),
        # As the model is by itself, so that "inference" finds it trained.
        Row("3×3×256 twice", "form", paper={R101: 78.85}),
        Row("3×3×256 three times", "form", options(decoder_depth=3), paper={R101: 78.02}),
        Row("3×3×128", "form", options(decoder_depth=1, decoder_channels=128), paper={R101: 77.25}),
        Row("1×1×256", "form", options(decoder_depth=1, decoder_kernel_size=1), paper={R101: 78.07}),
        Row("3×3×256, Conv3 too", "form", options(decoder_depth=1, conv3=True), paper={R101: 78.61}),
    ),
    recipe=V3_RECIPE,
)

INFERENCE = Experiment(
    "inference",
    "What does each strategy add when the model is only run: output stride, several scales, mirroring?",
    "v3+, tables 3 and 5",
    ("deeplabv3plus_{}",),
    tuple(
        strategies(
            (
                {R101: 78.85, XCEPTION: 79.79},
                {R101: 80.09},
                {R101: 80.22, XCEPTION: 81.21},
                {R101: 79.35, XCEPTION: 80.02},
                {R101: 80.43},
                {R101: 80.57, XCEPTION: 81.39},
            ),
            (16, 8),
        )
    ),
    recipe=V3_RECIPE,
    setting="Xception-65 with separable convolutions",
)
