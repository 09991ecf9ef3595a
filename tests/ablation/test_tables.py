"""The papers' numbers, and that each table can be run on the paper's own backbone."""

import pytest

from atrous.ablation import EXPERIMENTS, find_experiment, make_plan
from atrous.errors import AtrousError


def numbers(name, backbone="resnet101", group=None):
    rows = [row for row in find_experiment(name).rows if group in (None, row.group)]
    return {row.name: row.paper[backbone] for row in rows if backbone in row.paper}


@pytest.mark.parametrize(
    ("name", "backbone", "group", "total"),
    [
        ("v1-largefov", "vgg16", "without CRF", 249.84),
        ("v1-largefov", "vgg16", "with CRF", 266.16),
        ("v2-aspp", "vgg16", "without CRF", 201.70),
        ("v2-aspp", "vgg16", "with CRF", 211.14),
        ("v3-output-stride", "resnet50", None, 341.74),
        ("v3-cascade", "resnet50", None, 285.12),
        ("v3-multigrid", "resnet101", "block4", 356.66),
        ("v3-multigrid", "resnet101", "block5", 374.70),
        ("v3-multigrid", "resnet101", "block6", 377.94),
        ("v3-multigrid", "resnet101", "block7", 379.17),
        ("v3-aspp", "resnet101", None, 381.54),
        ("v3-cascade-inference", "resnet101", None, 312.99),
        ("v3-inference", "resnet101", None, 314.94),
        ("v3-tricks", "resnet101", "tricks", 296.39),
        ("v3-tricks", "resnet101", "batch size", 293.89),
        ("v3-strides", "resnet101", None, 457.44),
        ("v3plus-decoder", "resnet101", "low-level channels", 389.84),
        ("v3plus-decoder", "resnet101", "form", 469.01),
        ("inference", "resnet101", None, 479.51),
        ("inference", "xception65", None, 322.41),
        ("crf", "resnet101", None, 154.04),
    ],
)
def test_the_papers_numbers_add_up(name, backbone, group, total):
    """Sums over the columns that the papers print."""
    rows = [row for row in find_experiment(name).rows if group in (None, row.group)]
    assert sum(row.paper.get(backbone, 0) for row in rows) == pytest.approx(total)


def test_what_stands_in_two_tables_is_the_same():
    assert numbers("v3-multigrid", group="block7")["(1, 2, 1)"] == numbers("v3-cascade-inference")["output stride 16"]
    assert [numbers("v3-multigrid", group=f"block{n}")["(1, 1, 1)"] for n in (4, 5, 6, 7)] == list(
        numbers("v3-cascade").values()
    )
    assert numbers("v3-output-stride", "resnet50")["output stride 16"] == numbers("v3-cascade", "resnet50")["block7"]
    best = numbers("v3-aspp")["multi-grid (1, 2, 4), rates (6, 12, 18), image pooling"]
    assert best == numbers("v3-inference")["output stride 16"] == numbers("v3-tricks")["as it is"]
    assert best == numbers("v3-strides", group="run at 16")["trained at 16"]
    assert numbers("v3-strides", group="run at 8")["trained at 16"] == numbers("v3-inference")["output stride 8"]
    decoder = numbers("v3plus-decoder")
    assert decoder["48 channels"] == decoder["3×3×256"]
    assert decoder["3×3×256 twice"] == numbers("inference")["output stride 16"]
    aspp = numbers("v2-aspp", "vgg16", "with CRF")["ASPP-L"]
    assert aspp == numbers("crf", "vgg16")["with CRF"]


def test_the_text_of_a_row_finds_it_alone():
    for experiment in EXPERIMENTS.values():
        slugs = [row.slug for row in experiment.rows]
        assert len(set(slugs)) == len(slugs)
        assert all(slug.replace("-", "").replace(".", "").isalnum() for slug in slugs)


@pytest.fixture(scope="module")
def plans():
    return {name: make_plan(experiment, seeds=1) for name, experiment in EXPERIMENTS.items()}


@pytest.mark.slow
def test_every_row_can_be_run_on_the_papers_backbone(plans):
    for plan in plans.values():
        assert plan.left_out == {}
        assert len(plan.runs) == len(plan.experiment.rows)
        assert all(run.recipe.validate_every == run.recipe.schedule.epochs for run in plan.runs)


@pytest.mark.slow
def test_the_papers_recipes(plans):
    """v3, appendix: crops of 513 and 321, batches of 16, 12, 8 and 4; table 10: 6 at output stride 8, 24 at 32."""
    tricks = {run.row.name: run.recipe for run in plans["v3-tricks"].runs}
    assert tricks["as it is"].augment.crop == (513, 513)
    assert tricks["crop × 5/8"].augment.crop == (321, 321)
    assert [tricks[name].batch_size for name in ("whole", "three quarters", "half", "a quarter")] == [16, 12, 8, 4]
    assert tricks["batch norm not fine-tuned"].model.fixed_batch_norm
    assert not tricks["labels shrunk to the logits"].upsample_logits
    strides = {run.recipe.model.output_stride: run.recipe.batch_size for run in plans["v3-strides"].runs}
    assert strides == {8: 6, 16: 16, 32: 24}
    assert {run.recipe.augment.crop for run in plans["v2-aspp"].runs} == {(321, 321)}
    assert [run.recipe.model.output_stride for run in plans["v3-output-stride"].runs] == [8, 16, 32, 64, 128, 256]


@pytest.mark.slow
def test_rows_that_only_judge_otherwise_share_a_training(plans):
    counts = {name: len({run.training for run in plan.runs}) for name, plan in plans.items()}
    assert counts["inference"] == counts["v3-inference"] == counts["crf"] == 1
    assert counts["v3-strides"] == 3
    assert counts["v1-largefov"] == 4
    assert counts["v3-tricks"] == 7  # the whole batch is as it is
    assert counts["v3plus-decoder"] == 10  # 48 channels are one 3×3×256
    twice = next(run for run in plans["v3plus-decoder"].runs if run.row.name == "3×3×256 twice")
    assert twice.training == plans["inference"].runs[0].training


def test_a_small_backbone_runs_what_it_can(recipe):
    plan = make_plan(find_experiment("v3-multigrid"), recipe, seeds=2)
    assert plan.backbone == "mobilenet_v2_050"
    assert [run.row.group for run in plan.runs] == ["block4"] * 10
    assert len(plan.left_out) == 15
    assert "no option 'blocks'" in plan.left_out["block5-1-1-1"]
    assert [run.seed for run in plan.runs] == [5] * 5 + [6] * 5
    assert [run.recipe.model.options for run in plan.runs][3] == {"multi_grid": [1, 2, 4]}
    coarse = make_plan(find_experiment("v3-output-stride"), recipe, seeds=1)
    assert [run.recipe.model.output_stride for run in coarse.runs] == [8, 16, 32]


def test_what_is_set_holds_unless_the_row_says_otherwise(recipe):
    changes = {"model.output_stride": 8, "model.options.separable": False, "schedule.epochs": 9}
    plan = make_plan(find_experiment("v3-strides"), recipe, seeds=1, changes=changes)
    assert {run.recipe.model.output_stride for run in plan.runs} == {8, 16, 32}
    assert all(run.recipe.model.options == {"separable": False} for run in plan.runs)
    assert all(run.recipe.validate_every == run.recipe.schedule.epochs == 9 for run in plan.runs)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("v4", {}, "no experiment is called 'v4'; there are v1-largefov"),
        ("v1-largefov", {"backbone": "resnet50"}, "cannot be run on backbone 'resnet50'; it can on vgg16"),
        ("v3-aspp", {"backbone": "resnet9"}, "it can on resnet50, resnet101"),
        (
            "v3-multigrid",
            {"only": ["block9-*"]},
            "--only block9-.*: no such row in v3-multigrid; there are block4-1-1-1",
        ),
        ("v3-multigrid", {"backbone": "mobilenet_v2", "only": ["block7-*"]}, "no row can be run on mobilenet_v2"),
        ("v3-multigrid", {"seeds": 0}, "seeds=0"),
        ("v3-multigrid", {"changes": {"optimizer.lrr": 1}}, "optimizer.lrr: unknown key"),
    ],
)
def test_misuse_is_named(name, options, message):
    with pytest.raises(AtrousError, match=message) as error:
        make_plan(find_experiment(name), **options)
    assert "\n" not in str(error.value)
