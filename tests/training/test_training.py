"""Training: what a step is fed, and that a stopped run goes on as if it had not been."""

import signal

import pytest
import torch
from torch import nn

from atrous.data import Augmentation, CachedDataset, open_dataset
from atrous.errors import RecipeError
from atrous.evaluation import evaluate
from atrous.inference import load
from atrous.models import create_model
from atrous.training import Recipe, train
from atrous.training.keeping import CHECKPOINT, Keeper
from atrous.training.module import Trainee
from atrous.training.optimizer import make_optimizer
from atrous.training.recipe import OptimizerRecipe
from atrous.training.samples import EpochSampler, TrainingCrops
from atrous.weights import ModelCard, read_card
from data_sets import sky_over_ground
from tiny_network import recipe

RECIPE = {
    "model": {"name": "deeplabv3_mobilenet_v2_050"},
    "augment": {"crop": (33, 33), "scale": (0.8, 1.2)},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "schedule": {"epochs": 4},
    "batch_size": 2,
    "ema_decay": 0.5,
    "seed": 5,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five photos to train, so that the last batch holds one."""
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 5, "val": 2})


def run(data, out, **changes):
    resume, workers = changes.pop("resume", False), changes.pop("workers", 0)
    recipe = Recipe.model_validate({**RECIPE, **changes})
    return train(recipe, data, out, resume=resume, workers=workers, device="cpu")


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_run_goes_on_as_if_never_stopped(data, tmp_path, monkeypatch, workers):
    """Killed in the middle of its third epoch and resumed: the same weights to the last bit, with a worker too."""
    run(data, tmp_path / "whole", workers=workers)
    steps = 0
    plain = Trainee.training_step

    def step_until_killed(self, batch, index):
        nonlocal steps
        steps += 1
        if steps == 8:
            raise KilledError
        return plain(self, batch, index)

    monkeypatch.setattr(Trainee, "training_step", step_until_killed)
    with pytest.raises(KilledError):
        run(data, tmp_path / "broken", workers=workers)
    monkeypatch.undo()
    run(data, tmp_path / "broken", resume=True, workers=workers)
    states = [torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["state_dict"] for name in ("whole", "broken")]
    assert states[0].keys() == states[1].keys()
    different = [key for key in states[0] if not torch.equal(states[0][key], states[1][key])]
    assert different == []
    # The seconds differ; what was judged best, and its scores, do not.
    cards = [read_card(tmp_path / name)[1].provenance for name in ("whole", "broken")]
    assert cards[0]["scores"] == cards[1]["scores"]
    assert cards[0]["epoch"] == cards[1]["epoch"]


def test_ctrl_c_is_an_interrupt_and_stays_one(data, tmp_path, monkeypatch):
    """Lightning would end the program by itself, and have the signal ignored from then on."""

    def interrupted(self, batch, index):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Trainee, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
def test_the_saved_model_has_the_scores_that_its_card_says(data, tmp_path):
    # Batch norm has few steps to follow the data, so it follows quickly.
    model = {**RECIPE["model"], "batch_norm_momentum": 0.5}
    scores = run(data, tmp_path / "run", schedule={"epochs": 12}, model=model)
    provenance = read_card(tmp_path / "run")[1].provenance
    again = evaluate(load(tmp_path / "run"), data).scores
    assert again == scores
    assert provenance["scores"] == {"split": "val", **again.to_dict()}
    assert provenance["settings"]["optimizer"]["lr"] == 3e-3
    assert provenance["seed"] == 5
    assert scores.miou > 0.7  # sky is dark and ground is bright: it has learnt that
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_fixed_batch_norm_keeps_its_statistics_and_learns_the_rest(data, tmp_path):
    """v3, table 8: without fine-tuning batch norm."""
    for fixed in (True, False):
        run(data, tmp_path / str(fixed), model={**RECIPE["model"], "fixed_batch_norm": fixed}, ema_decay=0)
    states = [
        torch.load(tmp_path / str(fixed) / CHECKPOINT, weights_only=True)["state_dict"] for fixed in (True, False)
    ]
    fresh = create_model("deeplabv3_mobilenet_v2_050", num_classes=2).state_dict()
    for key, initial in fresh.items():
        fixed, fitted = (state[f"model.{key}"] for state in states)
        if key.endswith(("running_mean", "running_var")):
            assert torch.equal(fixed, initial)
            assert not torch.equal(fitted, initial)
        elif key.endswith("bn.weight"):
            assert not torch.equal(fixed, initial)


def test_labels_shrunk_to_the_logits_give_the_loss_of_before_v3():
    torch.manual_seed(0)
    images, labels = torch.randn(2, 3, 33, 49), torch.randint(0, 2, (2, 33, 49), dtype=torch.uint8)
    labels[:, :17] = 255
    recipe = Recipe.model_validate({**RECIPE, "upsample_logits": False})
    trainee = Trainee(create_model("deeplabv3_mobilenet_v2_050", num_classes=2), recipe, 255).eval()
    logits = trainee.model.coarse_logits(images)
    assert logits.shape[-2:] == (3, 4)
    expected = nn.functional.cross_entropy(logits, labels[:, ::16, ::16].long(), ignore_index=255)
    torch.testing.assert_close(trainee.loss(images, labels), expected)


@pytest.mark.slow
def test_photos_are_judged_at_the_recipes_scale_and_may_come_decoded(data, tmp_path):
    scores = run(data, tmp_path / "run", val_scale=0.5, schedule={"epochs": 8})
    assert scores == evaluate(load(tmp_path / "run"), data, scales=(0.5,)).scores
    recipe = Recipe.model_validate({**RECIPE, "val_scale": 0.5, "schedule": {"epochs": 8}})
    photos = CachedDataset(open_dataset(data, "train"))
    assert train(recipe, data, tmp_path / "decoded", workers=0, device="cpu", photos=photos) == scores


def test_a_run_is_not_overwritten(data, tmp_path):
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(RecipeError, match="holds a run already; add --resume"):
        run(data, tmp_path)


def test_each_epoch_has_every_photo_once_in_its_own_order():
    sampler = EpochSampler(10, seed=1)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        numbers = list(sampler)
        assert {number // 10 for number in numbers} == {epoch}
        orders.append([number % 10 for number in numbers])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]
    sampler.set_epoch(0)
    assert [number % 10 for number in sampler] == orders[0]


def test_samples_depend_on_epoch_and_photo_alone(data):
    folder = open_dataset(data, "train")
    card = ModelCard(folder.classes.names, folder.classes.palette)
    one, two = (TrainingCrops(CachedDataset(folder), Augmentation(crop=(33, 33)), card, seed=3) for _ in range(2))
    two[4]  # what was drawn before does not matter
    assert all(torch.equal(a, b) for a, b in zip(one[7], two[7], strict=True))
    assert not torch.equal(one[7][0], one[2][0])  # the same photo in another epoch


def test_padding_is_void_and_the_mean_colour(data):
    """Padded area is never trained as a class (two peers pad labels with 0), and is zero once normalised."""
    folder = open_dataset(data, "train")
    card = ModelCard(folder.classes.names, folder.classes.palette)
    samples = TrainingCrops(CachedDataset(folder), Augmentation(crop=(97, 97), scale=(1, 1)), card, seed=0)
    image, mask = samples[0]
    assert (mask != 255).sum() <= 40 * 48
    outside = image.abs().amax(0) < 0.01
    assert outside.sum() >= 97 * 97 - 40 * 48
    assert (mask[outside] == 255).float().mean() > 0.99


def test_what_is_decayed_and_how_fast_each_part_learns():
    model = create_model("deeplabv3plus_mobilenet_v2_050")
    optimizer = make_optimizer(model, OptimizerRecipe(lr=0.1, weight_decay=0.01, backbone_multiplier=0.5))
    settings = {id(p): (g["lr"], g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert len(settings) == len(list(model.parameters()))
    assert settings[id(model.backbone.stem.conv.weight)] == (0.05, 0.01)
    assert settings[id(model.backbone.stem.bn.weight)] == (0.05, 0.0)
    assert settings[id(model.backbone.blocks[1].depthwise.conv.weight)] == (0.05, 0.0)
    assert settings[id(model.logits.weight)] == (0.1, 0.01)
    assert settings[id(model.logits.bias)] == (0.1, 0.0)


def test_the_moving_average_follows_weights_and_statistics():
    recipe = Recipe.model_validate({**RECIPE, "ema_decay": 0.75})
    trainee = Trainee(create_model("deeplabv3_mobilenet_v2_050", num_classes=2), recipe, 255)
    norm: nn.BatchNorm2d = trainee.model.backbone.stem.bn
    with torch.no_grad():
        for module in (trainee.model, trainee.average.module):
            module.logits.bias.zero_()
    trainee.follow()  # the first update copies
    for _ in range(100):
        trainee.follow()
    with torch.no_grad():
        trainee.model.logits.bias.fill_(1.0)
        norm.running_mean.fill_(8.0)
    trainee.follow()
    averaged = trainee.average.module
    torch.testing.assert_close(averaged.logits.bias, torch.full((2,), 0.25))
    torch.testing.assert_close(averaged.backbone.stem.bn.running_mean, torch.full((norm.num_features,), 2.0))
    assert trainee.best_guess is averaged


def test_accumulated_batches_make_a_step_and_an_epochs_last_ones_too(data, tmp_path, monkeypatch, tiny):
    """Five photos in twos: two batches, then one that is a step of its own and counts as much as a whole step."""
    seen = []

    def photos_times_bias(self, images, labels):
        seen.append(torch.initial_seed())
        return self.model.logits.bias.sum() * len(images)

    def ended(trainee):
        raise KilledError(trainee.global_step, int(trainee.average.n_averaged), trainee.model.logits.bias[0].item())

    monkeypatch.setattr(Trainee, "loss", photos_times_bias)
    monkeypatch.setattr(Trainee, "on_train_epoch_end", ended, raising=False)
    monkeypatch.setattr(Keeper, "on_train_epoch_end", lambda *_: None)
    sgd = {"name": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}
    changes = {"accumulate": 2, "batch_size": 2, "optimizer": sgd, "schedule": {"epochs": 2, "power": 1.0}}
    with pytest.raises(KilledError) as caught:
        train(Recipe.model_validate(recipe(**changes)), data, tmp_path / "run", workers=0, device="cpu")
    steps, averaged, bias = caught.value.args
    assert (steps, averaged) == (2, 2)
    torch.manual_seed(5)
    start = create_model("tiny", 2).logits.bias[0].item()
    # Poly over four steps: the whole rate, then three quarters of it; gradients (2 + 2) / 2 and 1.
    assert bias - start == pytest.approx(-0.5 * 2 - 0.5 * 0.75 * 1)
    assert len(set(seen)) == 3  # dropout differs in the batches of one step


@pytest.mark.slow
def test_a_compiled_run_keeps_the_names_of_its_weights(data, tmp_path, monkeypatch, tiny):
    """No `_orig_mod.` in the checkpoint: what is compiled goes on without compilation, and the other way round."""
    compiled, plain_compile = [], torch.compile

    def compile(function, **_):
        compiled.append(function.__name__)
        return plain_compile(function, backend="aot_eager")  # traced as for any backend, without waiting for C++

    monkeypatch.setattr(torch, "compile", compile)
    for name, changes in (("plain", {}), ("compiled", {"compile": True})):
        train(Recipe.model_validate(recipe(**changes)), data, tmp_path / name, workers=0, device="cpu")
    assert compiled == ["training_logits"]
    plain, traced = (torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("plain", "compiled"))
    assert plain["state_dict"].keys() == traced["state_dict"].keys()
    torch.testing.assert_close(traced["state_dict"], plain["state_dict"], rtol=1e-4, atol=1e-5)
    assert load(tmp_path / "compiled").model.config["name"] == "tiny"


@pytest.mark.slow
def test_half_precision_trains_in_bfloat16(data, tmp_path, monkeypatch, tiny):
    """The convolutions run in it; the weights and what is saved of them stay in float32."""
    seen, plain = [], Trainee.judge

    def judge(self, logits, *truth):
        seen.append(logits.dtype)
        return plain(self, logits, *truth)

    monkeypatch.setattr(Trainee, "judge", judge)
    train(Recipe.model_validate(recipe(precision="bf16")), data, tmp_path / "run", workers=0, device="cpu")
    assert set(seen) == {torch.bfloat16}
    state = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
