"""What a training step judges: every output that a model was published with, by the loss that the recipe names."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from atrous.data import open_dataset
from atrous.errors import RecipeError
from atrous.layers import BatchNorm2d
from atrous.models import create_model
from atrous.training import Recipe, Trainee
from atrous.training.losses import dice_loss
from atrous.training.samples import EpochSampler
from atrous.training.starting import make_loss, make_model
from networks import image, randomise

RECIPE = {"model": {"name": "deeplabv3_mobilenet_v2_050"}, "schedule": {"epochs": 1}}


def trainee(model, **changes):
    return Trainee(model, Recipe.model_validate({**RECIPE, **changes}), 255)


def truth(height, width, classes):
    target = torch.randint(0, classes, (1, height, width), generator=torch.Generator().manual_seed(0))
    target[:, :20] = 255
    return target


@pytest.mark.parametrize("aux", [False, True])
def test_torchvisions_script_adds_two_fifths_of_the_auxiliary_heads_cross_entropy(aux):
    model = randomise(create_model("torchvision_deeplabv3_mobilenet_v3_large", 5, aux=aux))
    x, target = image(65, 97), truth(65, 97, 5)
    with torch.no_grad():
        expected = F.cross_entropy(model(x), target, ignore_index=255)
        if aux:
            coarse = model.training_logits(x)[1][0]
            auxiliary = F.interpolate(coarse, (65, 97), mode="bilinear", align_corners=False)
            expected = expected + 0.4 * F.cross_entropy(auxiliary, target, ignore_index=255)
        torch.testing.assert_close(trainee(model).loss(x, target), expected)


def test_v2s_script_adds_a_loss_for_each_scale_and_one_for_their_maximum():
    """The ground truth at every eighth pixel, as in the paper's code, and at what the smaller maps stand for."""
    options = {"output_stride": 8, "multi_scale": [0.5, 0.75, 1.0]}
    model = randomise(create_model("deeplabv3_mobilenet_v2_050", 4, **options))
    x, target = image(65, 65), truth(65, 65, 4)
    places = torch.tensor([0, 11, 21, 32, 43, 53, 64])  # 64 / 6 apart
    truths = [target[:, ::16, ::16], target[:, places[:, None], places], target[:, ::8, ::8], target[:, ::8, ::8]]
    pupil = trainee(model, upsample_logits=False)
    with torch.no_grad():
        expected = sum(
            F.cross_entropy(logits, truth, ignore_index=255)
            for logits, truth in zip(model.all_logits(x), truths, strict=True)
        )
        torch.testing.assert_close(pupil.loss(x, target), expected)
    loss = pupil.loss(x, torch.full_like(target, 255))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_recipe_names_its_loss_and_the_weights_come_from_the_training_split(labelled_folder):
    """Two thirds of the sky's pixels and one of the ground's: median frequency, by hand."""
    dataset = open_dataset(labelled_folder, "train")
    recipe = Recipe.model_validate({**RECIPE, "loss": {"parts": {"dice": 0.5}, "class_weights": "median_frequency"}})
    loss = make_loss(recipe, dataset)
    assert loss.class_weights == pytest.approx((0.75, 1.5))
    logits, target = torch.randn(1, 2, 5, 5, dtype=torch.float64), torch.randint(0, 2, (1, 9, 9))
    weight = torch.tensor([0.75, 1.5])
    torch.testing.assert_close(loss(logits, target), 0.5 * dice_loss(logits, target, weight=weight))


def test_class_weights_of_another_number_are_refused_before_a_step(labelled_folder):
    recipe = Recipe.model_validate({**RECIPE, "loss": {"class_weights": [1, 2, 3]}})
    with pytest.raises(RecipeError, match=r"loss\.class_weights: 3 numbers for the 2 classes"):
        make_loss(recipe, open_dataset(labelled_folder, "train"))


def test_balanced_sampling_draws_by_the_shares_and_the_same_for_the_same_epoch():
    sampler = EpochSampler(4, 3, np.array([0.7, 0.3, 0.0, 0.0]))
    sampler.set_epoch(2)
    drawn = list(sampler)
    assert drawn == list(sampler)
    assert {number // 4 for number in drawn} == {2}
    many = [index for epoch in range(500) for index in _drawn(sampler, epoch)]
    assert set(many) == {0, 1}
    assert np.mean(many) == pytest.approx(0.3, abs=0.05)


def _drawn(sampler, epoch):
    sampler.set_epoch(epoch)
    return [number % 4 for number in sampler]


def test_frozen_batch_norm_survives_train(labelled_folder):
    recipe = Recipe.model_validate({**RECIPE, "model": {**RECIPE["model"], "fixed_batch_norm": True}})
    model, _ = make_model(recipe, open_dataset(labelled_folder, "train").classes)
    norms = [module for module in model.modules() if isinstance(module, BatchNorm2d)]
    for trained in (model, model.train()):
        before = [norm.running_mean.clone() for norm in norms]
        trained.training_logits(torch.randn(2, 3, 33, 33))
        assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert model.training
