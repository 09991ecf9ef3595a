"""The recipes that Atrous comes with: the papers' networks and numbers, and a step that does what they say."""

import pytest
import torch

from atrous.data import Classes
from atrous.models import create_model, list_models
from atrous.settings import shipped_recipes
from atrous.training import Trainee, changed_recipe, load_recipe, make_model, make_optimizer
from atrous.training.optimizer import paces
from networks import DEEPER

# FACTS A7, for 21 classes.
PARAMETERS = {
    "v1_largefov_voc": 20_505_429,
    "v2_vgg16_aspp_voc": 37_877_652,
    "v2_resnet101_msc_voc": 44_048_532,
    "v3_resnet101_voc": 58_040_661,
    "v3_cascade_resnet101_voc": 82_706_517,
    "v3_mobilenet_v2_voc": 2_113_557,
    "v3plus_resnet101_voc": 59_344_309,
    "v3plus_xception65_voc": 41_055_413,
    "torchvision_resnet50_voc": 42_004_074,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_recipes_network_has_the_papers_parameters(name):
    settings = load_recipe(name).model
    with torch.device("meta"):
        model = create_model(settings.name, 21, settings.output_stride, **settings.options)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "lr", "steps", "photos_a_step", "crop", "scale", "policy", "decay"),
    [
        ("v1_largefov_voc", 0.001, 6_000, 30, 321, (1, 1), "step", 5e-4),
        ("v2_vgg16_aspp_voc", 0.001, 20_000, 10, 321, (1, 1), "poly", 5e-4),
        ("v2_resnet101_msc_voc", 2.5e-4, 20_000, 10, 321, (0.5, 1.5), "poly", 5e-4),
        ("v2_resnet101_msc_cocostuff", 2.5e-4, 100_000, 10, 321, (0.5, 1.5), "poly", 5e-4),
        ("v3_resnet101_voc", 0.007, 30_000, 16, 513, (0.5, 2), "poly", 1e-4),
        ("v3_cascade_resnet101_voc", 0.007, 30_000, 16, 513, (0.5, 2), "poly", 1e-4),
        ("v3_mobilenet_v2_voc", 0.007, 30_000, 16, 513, (0.5, 2), "poly", 4e-5),
        ("v3plus_resnet101_voc", 0.007, 30_000, 16, 513, (0.5, 2), "poly", 1e-4),
        ("v3plus_xception65_voc", 0.007, 30_000, 16, 513, (0.5, 2), "poly", 4e-5),
        ("v3plus_xception71_cityscapes", 0.007, 90_000, 16, 769, (0.5, 2), "poly", 4e-5),
    ],
)
def test_a_recipe_has_the_papers_numbers(name, lr, steps, photos_a_step, crop, scale, policy, decay):
    """FACTS A1 to A4."""
    recipe = load_recipe(name)
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ("sgd", lr, 0.9, decay)
    assert (schedule.steps, schedule.policy, schedule.power) == (steps, policy, 0.9)
    assert recipe.batch_size * recipe.accumulate == photos_a_step
    assert (recipe.augment.crop, recipe.augment.scale, recipe.augment.flip) == ((crop, crop), scale, True)
    old = name.startswith(("v1", "v2"))
    assert recipe.upsample_logits is not old
    assert recipe.model.output_stride == (8 if old else 16)
    if not old:
        # TensorFlow's decay of .9997 is torch's momentum of .0003; a peer set .9997.
        assert recipe.model.batch_norm_momentum == 0.0003
        assert recipe.augment.scale_step == 0.25


@pytest.mark.parametrize("name", ["v3_resnet101_voc", "v3_cascade_resnet101_voc"])
def test_v3s_second_stage_fixes_batch_norm_at_output_stride_8(name):
    first, second = load_recipe(name).stage_recipes()
    assert (first.model.output_stride, first.model.fixed_batch_norm, first.optimizer.lr) == (16, False, 0.007)
    assert (second.model.output_stride, second.model.fixed_batch_norm, second.optimizer.lr) == (8, True, 0.001)
    assert first.schedule == second.schedule


def shallower(name):
    """An architecture of the same units, fewer times."""
    twins = [name.replace(deep, twin) for deep, twin in DEEPER.items() if deep in name]
    return next((twin for twin in twins if twin in list_models()), name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(shipped_recipes().keys() - {"v2_resnet101_msc_cocostuff"})
)  # as the one for VOC
def test_a_step_moves_every_parameter_by_its_own_rate_and_decay(name):
    """Plain momentum's first step is the rate times the gradient and the decay; of Nesterov's it would be 1.9 times."""
    recipe = load_recipe(name)
    small = {"model.name": shallower(recipe.model.name), "model.pretrained_backbone": None, "augment.crop": [33, 33]}
    recipe = changed_recipe(recipe, small)
    classes = Classes(tuple("abc"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
    torch.manual_seed(0)
    model, _ = make_model(recipe, classes)
    model.train()
    trainee = Trainee(model, recipe, 255)
    labels = torch.randint(0, 3, (2, 33, 33), dtype=torch.uint8)
    labels[:, :9] = 255
    loss = trainee.loss(torch.randn(2, 3, 33, 33), labels)
    loss.backward()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    make_optimizer(model, recipe.optimizer).step()
    assert loss.isfinite()
    if recipe.optimizer.name != "sgd":
        assert any(not torch.equal(value, before[key]) for key, value in model.named_parameters())
        return
    pace = paces(model, recipe.optimizer)
    for key, value in model.named_parameters():
        if not value.requires_grad:
            assert torch.equal(value, before[key])
            continue
        step = value.grad + pace[key].weight_decay * before[key]
        expected = before[key] - recipe.optimizer.lr * pace[key].factor * step
        torch.testing.assert_close(value.detach(), expected, msg=lambda text, key=key: f"{key}: {text}")
    assert sum(float(value.grad.abs().sum()) > 0 for value in model.parameters() if value.requires_grad) > 10
