"""Recipes of two stages, as v3's: output stride 16 with batch norm trained, then 8 with it fixed."""

import pytest
import torch

from atrous.errors import RecipeError
from atrous.models import create_model
from atrous.training import Recipe, Trainee, changed_recipe, load_recipe, train
from atrous.training.keeping import CHECKPOINT
from atrous.training.stages import start_from
from atrous.weights import ModelCard, load_model, read_card, save_model
from data_sets import sky_over_ground

RECIPE = {
    "model": {"name": "deeplabv3_mobilenet_v2_050"},
    "augment": {"crop": (33, 33)},
    "optimizer": {"lr": 0.01},
    "schedule": {"steps": 4},
    "batch_size": 2,
    "stages": [
        {"name": "os16"},
        {
            "name": "os8",
            "model": {"output_stride": 8, "fixed_batch_norm": True},
            "optimizer": {"lr": 0.001},
            "schedule": {"steps": 4},
        },
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 5, "val": 1})


def run(data, out, resume=False, **changes):
    recipe = Recipe.model_validate({**RECIPE, **changes})
    return train(recipe, data, out, resume=resume, workers=0, device="cpu")


def weights(folder):
    state = torch.load(folder / CHECKPOINT, weights_only=True)["state_dict"]
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "whole"
    run(data, out)
    return out


def test_a_stage_is_the_recipe_with_its_changes():
    recipe = Recipe.model_validate(RECIPE)
    first, second = recipe.stage_recipes()
    assert first == changed_recipe(recipe, {"stages": []})
    assert second.model.name == recipe.model.name
    assert (second.model.output_stride, second.model.fixed_batch_norm) == (8, True)
    assert (second.optimizer.lr, second.optimizer.momentum, second.schedule.steps) == (0.001, 0.9, 4)
    assert changed_recipe(recipe, {"stages.1.optimizer.lr": 0.1}).stage_recipes()[1].optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            "{name: b, optimizer: {lr: -1}}",
            r"r\.yaml: stages\.1\.optimizer\.lr: Input should be greater than 0 \(got -1",
        ),
        ("{name: b, optimizer: {lrr: 1}}", r"r\.yaml: stages\.1\.optimizer\.lrr: unknown key \(got 1\)"),
        ("{name: b, schedule: {steps: 9}}", r"stages\.1\.schedule: both epochs and steps"),
        ("{name: b, stages: [{name: c}]}", r"stages\.1\.stages: a stage has none"),
        ("{optimizer: {lr: 1}}", r"stages\.1\.name: Field required"),
        ("1", r"stages\.1"),
    ],
)
def test_a_mistake_in_a_stage_is_named_with_its_key(tmp_path, stage, message):
    path = tmp_path / "r.yaml"
    path.write_text(
        f"model: {{name: deeplabv3_resnet50}}\nschedule: {{epochs: 3}}\nstages:\n- {{name: a}}\n- {stage}\n"
    )
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(path)
    assert "\n" not in str(error.value)


def test_an_override_reaches_into_a_stage_that_is_there():
    recipe = Recipe.model_validate(RECIPE)
    with pytest.raises(RecipeError, match=r"stages\.2\.optimizer\.lr: 2 is none of 0 to 1"):
        changed_recipe(recipe, {"stages.2.optimizer.lr": 1})


@pytest.mark.slow
def test_the_second_stage_starts_from_the_firsts_last_weights_with_other_rates(
    data, whole, tmp_path, monkeypatch, capfd
):
    begun = []
    plain = Trainee.on_fit_start

    def remember(self):
        begun.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        model = self.model
        begun.append((model.output_stride, model.backbone.blocks[-1].depthwise.conv.dilation))
        return plain(self)

    monkeypatch.setattr(Trainee, "on_fit_start", remember)
    run(data, tmp_path / "again")
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("stage")]
    assert told == [f"stage 0 in {tmp_path}/again/stage-0: os16", f"stage 1 in {tmp_path}/again: os8"]
    _, at_16, second, at_8 = begun
    former = weights(whole / "stage-0")
    assert second.keys() == former.keys()
    assert all(torch.equal(second[name], former[name]) for name in former)
    assert at_16 == (16, (2, 2))
    assert at_8 == (8, (4, 4))


@pytest.mark.slow
def test_the_second_stage_leaves_batch_norms_statistics_to_the_bit_and_trains_the_rest(whole):
    first, second = weights(whole / "stage-0"), weights(whole)
    fresh = create_model("deeplabv3_mobilenet_v2_050", 2).state_dict()
    for name, before in first.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(second[name], before), name
            assert not torch.equal(before, fresh[name]), name
    assert not torch.equal(second["logits.weight"], first["logits.weight"])
    model, card = load_model(whole)
    assert model.output_stride == 8
    assert card.provenance["settings"]["optimizer"]["lr"] == 0.001
    assert [settings["optimizer"]["lr"] for settings in card.provenance["former_stages"]] == [0.01]
    steps = [torch.load(folder / CHECKPOINT, weights_only=True)["global_step"] for folder in (whole / "stage-0", whole)]
    assert steps == [4, 4]


class KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed_at", "left"),
    [(3, [0.01] + 4 * [0.001]), (4, 4 * [0.001]), (7, [0.001])],
    ids=["in the first stage", "as the second begins", "in the second stage"],
)
def test_a_run_of_stages_killed_and_resumed_equals_one_never_killed(
    data, whole, tmp_path, monkeypatch, killed_at, left
):
    """Steps 0 to 3 are the first stage's, in epochs of three; 4 to 7 the second's. What is finished is not repeated."""
    steps: list[float] = []
    plain = Trainee.training_step

    def step_until_killed(self, batch, index):
        if len(steps) == killed_at:
            raise KilledError
        steps.append(self.recipe.optimizer.lr)
        return plain(self, batch, index)

    monkeypatch.setattr(Trainee, "training_step", step_until_killed)
    with pytest.raises(KilledError):
        run(data, tmp_path)
    with pytest.raises(RecipeError, match="holds a run already; add --resume"):
        run(data, tmp_path)
    killed_at, steps = -1, []
    scores = run(data, tmp_path, resume=True)
    assert steps == left
    for folder in ("stage-0", "."):
        after, expected = weights(tmp_path / folder), weights(whole / folder)
        assert [name for name in expected if not torch.equal(after[name], expected[name])] == []
    assert read_card(tmp_path)[1].provenance["scores"] == {"split": "val", **scores.to_dict()}


@pytest.mark.slow
def test_a_stage_begins_with_the_moving_average_and_refuses_another_network(data, tmp_path):
    recipe = Recipe.model_validate({**RECIPE, "stages": (), "ema_decay": 0.9})
    train(recipe, data, tmp_path, workers=0, device="cpu")
    card = read_card(tmp_path)[1]
    model = create_model("deeplabv3_mobilenet_v2_050", 2, 8)
    start_from(model, card, tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)["state_dict"]
    assert torch.equal(model.logits.weight, state["average.module.logits.weight"])
    assert not torch.equal(model.logits.weight, state["model.logits.weight"])
    with pytest.raises(RecipeError, match="other weights at aspp"):
        start_from(create_model("deeplabv3_mobilenet_v2_050", 2, image_pooling=False), card, tmp_path)


def test_a_stage_may_add_to_the_model(tmp_path):
    """As recipes/street.yaml does: all of the former's weights, and a further step that says nothing yet."""
    former = create_model("deeplabv3plus_mobilenet_v2_050", 2)
    card = ModelCard(classes=("sky", "ground"), palette=((0, 0, 255), (0, 255, 0)))
    save_model(former, card, tmp_path)
    state = {f"model.{name}": value for name, value in former.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / CHECKPOINT)
    model = create_model("deeplabv3plus_mobilenet_v2_050", 2, fine_channels=8)
    start_from(model, card, tmp_path)
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in former.state_dict().items())
    assert not model.fine_decoder.logits.weight.any()


@pytest.mark.slow
def test_a_run_of_other_stages_is_not_gone_on_with(data, whole):
    first, second = RECIPE["stages"]
    before = (whole / "recipe.yaml").read_bytes()
    others = {
        r"stages\.0: optimizer\.lr: 0\.5, but the run in .*stage-0 began with 0\.01": (
            {**first, "optimizer": {"lr": 0.5}},
            second,
        ),
        r"optimizer\.lr: 0\.5, but the run in .* began with 0\.001": (first, {**second, "optimizer": {"lr": 0.5}}),
        r"stages: the run in .*whole began with others": (first, second, {"name": "third"}),
        "stages: the run in .* began with others": (),
    }
    for message, stages in others.items():
        with pytest.raises(RecipeError, match=message):
            run(data, whole, resume=True, stages=stages)
    with pytest.raises(RecipeError, match=r"stages: the run in .* began with others"):
        run(data, whole, resume=True, stages=[second])
    assert (whole / "recipe.yaml").read_bytes() == before


def test_a_stage_replaces_the_parts_of_the_loss():
    stages = [{"name": "a"}, {"name": "b", "loss": {"parts": {"lovasz": 1}, "gamma": 3}}]
    _, second = Recipe.model_validate({**RECIPE, "stages": stages}).stage_recipes()
    assert second.loss.parts == {"lovasz": 1}
    assert second.loss.gamma == 3


@pytest.mark.slow
def test_checkpoints_that_are_needed_no_more_may_go(data, tmp_path, tiny):
    stages = [{"name": name} for name in "abc"]
    changes = {"model": {"name": "tiny"}, "schedule": {"steps": 1}, "stages": stages}
    run(data, tmp_path, **changes)
    (tmp_path / "stage-0" / CHECKPOINT).unlink()
    run(data, tmp_path, resume=True, **changes)
    (tmp_path / "stage-1" / CHECKPOINT).unlink()
    with pytest.raises(RecipeError, match="or the checkpoint of the last one that is done has gone"):
        run(data, tmp_path, resume=True, **changes)
