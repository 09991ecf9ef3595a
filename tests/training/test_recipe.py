"""Recipes: what is wrong is refused by name before a step runs."""

from pathlib import Path

import numpy as np
import pytest

from atrous.data import Augmentation
from atrous.errors import RecipeError
from atrous.settings import parse_override, shipped_recipes
from atrous.training import changed_recipe, load_recipe, oddities

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SMALLEST = "model: {name: deeplabv3_mobilenet_v2}\nschedule: {epochs: 3}\n"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_recipes_are_valid(path):
    recipe = load_recipe(path)
    assert recipe.description
    assert recipe.licence
    assert not [line for line in oddities(recipe) if "corners" in line]  # crops of k·stride + 1 where corners align
    assert load_recipe(path.stem) == recipe


def write(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    return path


def test_the_papers_numbers_are_the_defaults(tmp_path):
    """v3, section 4.1: poly .9, lr .007, crop 513, batch 16, scale .5 to 2."""
    recipe = load_recipe(write(tmp_path, SMALLEST))
    assert recipe.schedule.power == 0.9
    assert recipe.optimizer.name == "sgd"
    assert (recipe.optimizer.lr, recipe.optimizer.momentum) == (0.007, 0.9)
    assert (recipe.augment.crop, recipe.augment.scale) == ((513, 513), (0.5, 2.0))
    assert recipe.batch_size == 16


def test_overrides_are_read_as_yaml(tmp_path):
    changes = ["optimizer.lr=1e-3", "augment.crop=[65, 97]", "model.pretrained_backbone=null", "schedule.epochs=9"]
    recipe = load_recipe(write(tmp_path, SMALLEST), changes)
    assert recipe.optimizer.lr == 1e-3
    assert recipe.augment.crop == (65, 97)
    assert recipe.schedule.epochs == 9


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        (SMALLEST + "lerning_rate: 1\n", [], r"lerning_rate: unknown key \(got 1\)"),
        (SMALLEST, ["optimizer.lrr=1"], "optimizer.lrr: unknown key"),
        (SMALLEST, ["optimizer.lr=-1"], "optimizer.lr: Input should be greater than 0"),
        (SMALLEST, ["model.output_stride=12"], "model.output_stride"),
        (SMALLEST, ["model.name=deeplabv9"], "no architecture is called 'deeplabv9'"),
        (SMALLEST, ["augment.scale=[2, 1]"], "2.0 is larger than 1.0"),
        (SMALLEST, ["optimizer.lr"], "key=value"),
        (SMALLEST, ["schedule.steps=9"], "schedule: both epochs and steps: give one of them, and null for the other"),
        (SMALLEST, ["schedule.epochs=null"], "schedule: neither epochs nor steps"),
        (SMALLEST, ["schedule.policy=cosine"], r"schedule\.policy: .*'poly' or 'step'"),
        (SMALLEST, ["schedule.warmup_epochs=3"], "warmup_epochs: 3 of 3 epochs"),
        (
            SMALLEST,
            ["schedule.epochs=null", "schedule.steps=9", "schedule.warmup_epochs=1"],
            "warmup_epochs: only where the length is given in epochs",
        ),
        (SMALLEST, ["optimizer.nesterov=true", "optimizer.name=adamw"], "nesterov: only for sgd"),
        (SMALLEST, ["optimizer.multipliers.logits=0"], r"optimizer\.multipliers\.logits: .* greater than 0"),
        (SMALLEST, ["model.fixed_batch_norm=some"], r"model\.fixed_batch_norm"),
        (SMALLEST, ["augment.scale_step=-1"], r"augment\.scale_step"),
        (SMALLEST, ["batch_size.x=1"], "batch_size"),
        (SMALLEST, ["schedule.epochs.x=1"], "epochs holds a value"),
        ("schedule: {epochs: 3}", [], "model: Field required"),
        ("- a", [], "not a recipe"),
        ("a: [", [], "not YAML"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path, text, overrides, message):
    with pytest.raises(RecipeError, match=message) as error:
        load_recipe(write(tmp_path, text), overrides)
    assert "\n" not in str(error.value)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml: no recipe there"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match=r"v9: no such file, .* of that name; there are camvid, .*v3_resnet101_voc"):
        load_recipe("v9")


def test_a_shipped_recipe_is_found_in_a_source_tree_and_in_an_installed_package(tmp_path, monkeypatch):
    assert {path.stem for path in RECIPES.glob("*.yaml")} == shipped_recipes().keys()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(SMALLEST)
    monkeypatch.setattr("atrous.settings._PLACES", (tmp_path / "recipes", RECIPES))
    assert load_recipe("mine").schedule.epochs == 3


def test_a_folder_of_a_recipes_name_does_not_hide_it(tmp_path, monkeypatch):
    (tmp_path / "camvid").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("camvid").model.name == "deeplabv3plus_efficientnet_lite0"


def test_iterations_replace_epochs_where_the_latter_are_taken_back(tmp_path):
    recipe = load_recipe(write(tmp_path, SMALLEST), ["schedule.epochs=null", "schedule.steps=30000"])
    assert (recipe.schedule.epochs, recipe.schedule.steps) == (None, 30_000)


def test_scales_of_the_released_code_are_a_quarter_apart():
    """FACTS A4: .5 to 2 in steps of .25, each as often as the others."""
    image, mask = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    augmentation = Augmentation(crop=(81, 81), scale=(0.5, 2.0), scale_step=0.25, flip=False)
    rng = np.random.default_rng(0)
    sides = [(augmentation(image, mask, rng, image[0, 0])[1] != 255).any(0).sum() for _ in range(700)]
    found, counts = np.unique(sides, return_counts=True)
    assert found.tolist() == [20, 30, 40, 50, 60, 70, 80]
    assert counts.min() > 70
    any_scale = Augmentation(crop=(81, 81), scale=(0.5, 2.0), flip=False)
    assert len({(any_scale(image, mask, rng, image[0, 0])[1] != 255).any(0).sum() for _ in range(100)}) > 30


def test_a_recipe_is_changed_at_dotted_keys_and_checked_again(tmp_path):
    recipe = load_recipe(write(tmp_path, SMALLEST))
    changed = changed_recipe(recipe, {"model.options.separable": True, "augment.crop": [65, 97], "seed": 4})
    assert changed.model.options == {"separable": True}
    assert (changed.augment.crop, changed.augment.scale, changed.seed) == ((65, 97), recipe.augment.scale, 4)
    assert (recipe.model.options, recipe.seed) == ({}, 0)
    with pytest.raises(RecipeError, match=r"augment\.crp: unknown key"):
        changed_recipe(recipe, {"augment.crp": [65, 65]})


def test_values_of_overrides_are_yaml_and_numbers_of_any_spelling():
    assert parse_override("optimizer.lr=1e-3") == ("optimizer.lr", 1e-3)
    assert parse_override("model.options.multi_grid=[1, 2, 4]") == ("model.options.multi_grid", [1, 2, 4])
    assert parse_override("description=a = b") == ("description", "a = b")
    with pytest.raises(RecipeError, match="key=value"):
        parse_override("=3")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.scale_step=.inf", r"augment\.scale_step: Input should be a finite number"),
        ("augment.scale_step=1e-300", r"augment: scale_step: 1e-300: give 0\.01 or more, or 0"),
        ("optimizer.weight_decay=.inf", r"optimizer\.weight_decay: Input should be a finite number"),
        ("loss.gamma=.nan", r"loss\.gamma: Input should be"),
        ("loss.class_weights=[.inf, 1]", r"loss\.class_weights"),
        ("loss.class_weights=[0, 0]", r"loss: class_weights: all are 0"),
    ],
)
def test_numbers_that_train_nothing_are_refused(tmp_path, override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, SMALLEST), [override])
