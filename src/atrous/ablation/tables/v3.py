"""v3 (arXiv 1706.05587): the cascade, multi-grid, ASPP, and how to train and run them."""

from atrous.ablation.experiment import Experiment, Judgement, Row, Times
from atrous.ablation.tables.settings import R50, R101, V3_RECIPE, grid, options, strategies

V3_OUTPUT_STRIDE = Experiment(
    "v3-output-stride",
    "What is lost as the features get coarser?",
    "v3, table 1",
    ("deeplabv3_cascade_{}",),
    tuple(
        Row(f"output stride {stride}", changes={"model.output_stride": stride}, paper={R50: miou})
        for stride, miou in ((8, 75.18), (16, 73.88), (32, 70.06), (64, 59.99), (128, 42.34), (256, 20.29))
    ),
    backbone=R50,
    recipe=V3_RECIPE,
    changes=options(blocks=7, multi_grid=[1, 1, 1]),
    implied={"blocks": 7},
)

V3_CASCADE = Experiment(
    "v3-cascade",
    "How deep need a cascade of atrous blocks be?",
    "v3, table 2",
    ("deeplabv3_cascade_{}",),
    tuple(
        Row(f"block{blocks}", changes=options(blocks=blocks), paper={R50: r50, R101: r101})
        for blocks, r50, r101 in ((4, 64.81, 68.39), (5, 72.14, 73.21), (6, 74.29, 75.34), (7, 73.88, 75.76))
    ),
    recipe=V3_RECIPE,
    changes=options(multi_grid=[1, 1, 1]),
    implied={"blocks": 4},
)

MULTI_GRIDS = {
    (1, 1, 1): (68.39, 73.21, 75.34, 75.76),
    (1, 2, 1): (70.23, 75.67, 76.09, 76.66),
    (1, 2, 3): (73.14, 75.78, 75.96, 76.11),
    (1, 2, 4): (73.45, 75.74, 75.85, 76.02),
    (2, 2, 2): (71.45, 74.30, 74.70, 74.62),
}

V3_MULTIGRID = Experiment(
    "v3-multigrid",
    "Do different rates within a block help, and how far down a cascade?",
    "v3, table 3",
    ("deeplabv3_cascade_{}",),
    tuple(
        Row(
            grid(rates),
            group=f"block{blocks}",
            changes=options(blocks=blocks, multi_grid=list(rates)),
            paper={R101: mious[blocks - 4]},
        )
        for blocks in (4, 5, 6, 7)
        for rates, mious in MULTI_GRIDS.items()
    ),
    recipe=V3_RECIPE,
    implied={"blocks": 4},
)

V3_ASPP = Experiment(
    "v3-aspp",
    "What do multi-grid, a fourth rate and image pooling add to ASPP?",
    "v3, table 5",
    ("deeplabv3_{}",),
    tuple(
        Row(
            f"multi-grid {grid(unit_rates)}, rates {grid(rates or (6, 12, 18))}"
            + (", image pooling" if pooling else ""),
            changes=options(multi_grid=list(unit_rates), aspp_rates=rates, image_pooling=pooling),
            paper={R101: miou},
        )
        for unit_rates, rates, pooling, miou in (
            ((1, 1, 1), None, False, 75.36),
            ((1, 2, 1), None, False, 75.93),
            ((1, 2, 4), None, False, 76.58),
            ((1, 2, 4), [6, 12, 18, 24], False, 76.46),
            ((1, 2, 4), None, True, 77.21),
        )
    ),
    recipe=V3_RECIPE,
)

V3_CASCADE_INFERENCE = Experiment(
    "v3-cascade-inference",
    "The same of the cascaded v3",
    "v3, table 4",
    ("deeplabv3_cascade_{}",),
    tuple(strategies(({R101: 76.66}, {}, {}, {R101: 78.05}, {R101: 78.93}, {R101: 79.35}), (16, 8))),
    recipe=V3_RECIPE,
    changes=options(blocks=7, multi_grid=[1, 2, 1]),
    implied={"blocks": 7},
)

V3_INFERENCE = Experiment(
    "v3-inference",
    "The same of v3, without a decoder",
    "v3, table 6",
    ("deeplabv3_{}",),
    tuple(strategies(({R101: 77.21}, {}, {}, {R101: 78.51}, {R101: 79.45}, {R101: 79.77}), (16, 8))),
    recipe=V3_RECIPE,
)

V3_TRICKS = Experiment(
    "v3-tricks",
    "What do crop, batch norm, upsampled logits and batch size matter in training?",
    "v3, tables 8 and 9",
    ("deeplabv3_{}",),
    (
        Row("as it is", "tricks", paper={R101: 77.21}),
        Row("batch norm not fine-tuned", "tricks", {"model.fixed_batch_norm": True}, paper={R101: 75.95}),
        Row("labels shrunk to the logits", "tricks", {"upsample_logits": False}, paper={R101: 76.01}),
        Row("crop × 5/8", "tricks", {"augment.crop": Times(5 / 8)}, paper={R101: 67.22}),
        Row("whole", "batch size", paper={R101: 77.21}),
        Row("three quarters", "batch size", {"batch_size": Times(3 / 4)}, paper={R101: 76.49}),
        Row("half", "batch size", {"batch_size": Times(1 / 2)}, paper={R101: 75.76}),
        Row("a quarter", "batch size", {"batch_size": Times(1 / 4)}, paper={R101: 64.43}),
    ),
    recipe=V3_RECIPE,
    setting="crop 513 and 321; batches of 16, 12, 8 and 4",
)

V3_STRIDES = Experiment(
    "v3-strides",
    "At which output stride should one train, and at which run?",
    "v3, table 10",
    ("deeplabv3_{}",),
    tuple(
        Row(
            f"trained at {trained}",
            f"run at {run}",
            {"model.output_stride": trained, "batch_size": Times(batch)},
            Judgement(output_stride=run),
            {R101: miou},
        )
        for run, mious in ((16, (77.21, 74.45, 75.90)), (8, (78.51, 75.62, 75.75)))
        for (trained, batch), miou in zip(((16, 1), (8, 3 / 8), (32, 3 / 2)), mious, strict=True)
    ),
    recipe=V3_RECIPE,
    setting="batches of 6 at output stride 8, 16 at 16, 24 at 32",
)
