"""What a run says of how it was made."""

import subprocess
import sys

import pytest
import yaml

from atrous.training import Recipe, load_recipe, provenance

RECIPE = {"model": {"name": "deeplabv3_mobilenet_v2_050"}, "schedule": {"epochs": 7}, "description": "à la carte: yes"}


def test_a_written_recipe_is_whole_and_can_be_run_again(tmp_path):
    recipe = Recipe.model_validate(RECIPE)
    provenance.write_recipe(tmp_path / "recipe.yaml", recipe, tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["optimizer"]["momentum"] == 0.9  # a default


def test_no_argument_of_the_command_leaves_its_comment(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/atrous", "train", "--set", "description=a\nseed: 7"])
    recipe = Recipe.model_validate(RECIPE)
    provenance.write_recipe(tmp_path / "recipe.yaml", recipe, tmp_path)
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    first = (tmp_path / "recipe.yaml").read_text().splitlines()[0]
    assert first == "# command: atrous train --set 'description=a seed: 7'"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A repository with a package in it, as if it were this one."""
    (tmp_path / "own.py").write_text("1\n")
    (tmp_path / "installed.py").write_text("1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "own.py"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "own.py"))
    return tmp_path


def test_the_commit_is_that_of_the_package_and_says_whether_it_was_changed(package, monkeypatch):
    head = subprocess.run(["git", "-C", package, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert provenance._commit() == head.stdout.strip()
    (package / "own.py").write_text("2\n")
    assert provenance._commit() == head.stdout.strip() + "-dirty"
    # Installed below somebody else's repository: its commit says nothing of the package.
    monkeypatch.setattr(provenance, "__file__", str(package / "installed.py"))
    assert provenance._commit() is None
