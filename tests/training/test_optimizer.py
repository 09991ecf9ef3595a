"""How fast each parameter learns, against the papers' solvers, and the schedules by hand."""

from functools import cache

import pytest
import torch
from torch import nn

from atrous.errors import RecipeError
from atrous.models import create_model
from atrous.training import Recipe, load_recipe, make_optimizer
from atrous.training.optimizer import make_schedule, paces
from atrous.training.recipe import OptimizerRecipe, ScheduleRecipe


@cache
def shipped(name):
    recipe = load_recipe(name)
    with torch.device("meta"):
        return recipe, create_model(recipe.model.name, 21, recipe.model.output_stride, **recipe.model.options)


def pace(name, parameter):
    """(Learning rate, weight decay) of one parameter under a shipped recipe."""
    recipe, model = shipped(name)
    found = paces(model, recipe.optimizer)[parameter]
    return pytest.approx(recipe.optimizer.lr * found.factor), found.weight_decay


@pytest.mark.parametrize(
    ("recipe", "parameter", "lr", "weight_decay"),
    [
        # v1's solver: .001, decay 5e-4 but for biases; biases twice; the classifier 10 and 20 times.
        ("v1_largefov_voc", "backbone.features.0.weight", 0.001, 5e-4),
        ("v1_largefov_voc", "backbone.features.0.bias", 0.002, 0),
        ("v1_largefov_voc", "head.fc6.weight", 0.001, 5e-4),
        ("v1_largefov_voc", "head.fc7.bias", 0.002, 0),
        ("v1_largefov_voc", "logits.weight", 0.01, 5e-4),
        ("v1_largefov_voc", "logits.bias", 0.02, 0),
        # v2 keeps that on VGG, for each of four classifiers ...
        ("v2_vgg16_aspp_voc", "aspp.0.fc6.weight", 0.001, 5e-4),
        ("v2_vgg16_aspp_voc", "aspp.3.logits.weight", 0.01, 5e-4),
        ("v2_vgg16_aspp_voc", "aspp.3.logits.bias", 0.02, 0),
        # ... and on ResNet-101 at 2.5e-4.
        ("v2_resnet101_msc_voc", "backbone.conv1.weight", 2.5e-4, 5e-4),
        ("v2_resnet101_msc_voc", "aspp.0.weight", 2.5e-3, 5e-4),
        ("v2_resnet101_msc_voc", "aspp.3.bias", 5e-3, 0),
        # v3 and v3+: .007 throughout, 1e-4 on ResNets and 4e-5 on Xception but for depthwise kernels; biases twice.
        ("v3_resnet101_voc", "backbone.conv1.weight", 0.007, 1e-4),
        ("v3_resnet101_voc", "backbone.bn1.weight", 0.007, 0),
        ("v3_resnet101_voc", "backbone.bn1.bias", 0.007, 0),
        ("v3_resnet101_voc", "aspp.project.conv.weight", 0.007, 1e-4),
        ("v3_resnet101_voc", "logits.weight", 0.007, 1e-4),
        ("v3_resnet101_voc", "logits.bias", 0.014, 0),
        ("v3plus_xception65_voc", "logits.weight", 0.007, 4e-5),
        ("v3plus_xception65_voc", "logits.bias", 0.014, 0),
        # torchvision's script: the auxiliary head ten times.
        ("torchvision_resnet50_voc", "backbone.conv1.weight", 0.02, 1e-4),
        ("torchvision_resnet50_voc", "auxiliary.conv.weight", 0.2, 1e-4),
        ("torchvision_resnet50_voc", "auxiliary_logits.weight", 0.2, 1e-4),
        ("torchvision_resnet50_voc", "logits.weight", 0.02, 1e-4),
    ],
)
def test_each_parameter_learns_as_fast_as_in_the_papers_solver(recipe, parameter, lr, weight_decay):
    assert pace(recipe, parameter) == (lr, weight_decay)


def test_the_papers_recipes_decay_no_depthwise_kernel_and_only_those_of_convolutions():
    recipe, model = shipped("v3plus_xception65_voc")
    found = paces(model, recipe.optimizer)
    convolutions = {name: module for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    decayed = {name for name, module in convolutions.items() if module.groups == 1}
    assert len(decayed) < len(convolutions)
    assert {name for name, pace in found.items() if pace.weight_decay} == {f"{name}.weight" for name in decayed}


@pytest.mark.parametrize(
    "name", ["v1_largefov_voc", "v2_resnet101_msc_voc", "v3_resnet101_voc", "v3plus_resnet101_voc"]
)
def test_the_papers_momentum_is_plain(name):
    """FACTS: only Xception's ImageNet training looked ahead (Nesterov); the default does not either."""
    recipe, _ = shipped(name)
    weight = nn.Conv2d(1, 1, 1)
    optimizer = make_optimizer(nn.Sequential(weight), recipe.optimizer.model_copy(update={"multipliers": {}}))
    assert [group["nesterov"] for group in optimizer.param_groups] == [False, False]
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}


def test_a_multiplier_of_nothing_is_refused_by_name():
    with torch.device("meta"):
        model = create_model("deeplabv3_mobilenet_v2_050")
    with pytest.raises(RecipeError, match=r"optimizer\.multipliers: .* 'fc8'; its parts are backbone, aspp, logits"):
        make_optimizer(model, OptimizerRecipe(multipliers={"logits": 10, "fc8": 10}))
    with pytest.raises(RecipeError, match="'log'"):  # a part of a word is no part of the model
        make_optimizer(model, OptimizerRecipe(multipliers={"log": 10}))


def test_batch_norm_that_is_fixed_wholly_is_not_trained(labelled_folder):
    """v2's released ResNet: neither statistics nor scale and shift."""
    from atrous.data import open_dataset
    from atrous.training import make_model

    recipe = Recipe.model_validate(
        {"model": {"name": "deeplabv3_mobilenet_v2_050", "fixed_batch_norm": "all"}, "schedule": {"epochs": 1}}
    )
    model, _ = make_model(recipe, open_dataset(labelled_folder, "train").classes)
    trained = {id(p) for group in make_optimizer(model, recipe.optimizer).param_groups for p in group["params"]}
    for module in model.modules():
        fixed = isinstance(module, nn.BatchNorm2d)
        assert all((id(p) in trained) != fixed for p in module.parameters(recurse=False))


def rates(recipe, steps, lr=1.0):
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=lr)
    schedule = make_schedule(optimizer, recipe, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_poly_falls_as_in_v2_from_the_whole_rate_to_almost_nothing():
    found = rates(ScheduleRecipe(steps=10), 10)
    assert found == pytest.approx([(1 - step / 10) ** 0.9 for step in range(10)])


def test_steps_fall_as_in_v1():
    """A tenth after 2,000 and after 4,000 iterations of 6,000."""
    recipe, _ = shipped("v1_largefov_voc")
    found = rates(recipe.schedule, 6000, lr=recipe.optimizer.lr)
    at = [0, 1999, 2000, 3999, 4000, 5999]
    assert [found[step] for step in at] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


def test_a_warm_up_rises_to_where_the_fall_has_come_to():
    found = rates(ScheduleRecipe(epochs=5, warmup_epochs=1), 20)
    poly = rates(ScheduleRecipe(epochs=5), 20)
    assert found[4:] == poly[4:]
    assert found[:4] == pytest.approx([share / 5 * rate for share, rate in zip((1, 2, 3, 4), poly[:4], strict=True)])


@pytest.mark.parametrize(
    ("schedule", "batches", "accumulate", "epochs"),
    [
        ({"epochs": 7}, 3, 1, 7),
        ({"steps": 7}, 3, 1, 3),  # the third is left after one of its steps
        ({"steps": 6}, 3, 1, 2),
        ({"steps": 6}, 3, 2, 3),  # two steps an epoch, the second of one batch
        ({"steps": 30_000}, 10_582 // 16 + 1, 1, 46),  # v3 on trainaug
    ],
)
def test_iterations_are_epochs_once_the_data_is_known(schedule, batches, accumulate, epochs):
    assert ScheduleRecipe(**schedule).epochs_of(batches, accumulate) == epochs
