"""Recipes: what is wrong is refused by name before a step runs."""

from pathlib import Path

import pytest

from atrous.errors import RecipeError
from atrous.settings import parse_override
from atrous.training import changed_recipe, load_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SMALLEST = "model: {name: deeplabv3_mobilenet_v2}\nschedule: {epochs: 3}\n"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_our_recipes_are_valid(path):
    recipe = load_recipe(path)
    height, width = recipe.augment.crop
    assert (height - 1) % recipe.model.output_stride == (width - 1) % recipe.model.output_stride == 0
    assert recipe.description
    assert recipe.licence


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
