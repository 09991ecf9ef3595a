"""A run goes on as it began, or not at all; and begins only with what it can use."""

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.errors import AtrousError, RecipeError
from atrous.training import CHECKPOINT, Recipe, Trainee, changed_recipe, load_recipe, train
from atrous.training.resuming import read_progress, refuse_another_run
from data_sets import sky_over_ground

RECIPE = {
    "model": {"name": "tiny"},
    "augment": {"crop": (33, 33)},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "schedule": {"epochs": 1},
    "batch_size": 2,
}


def run(data, out, resume=False, **changes):
    recipe = Recipe.model_validate({**RECIPE, **changes})
    return train(recipe, data, out, resume=resume, workers=0, device="cpu")


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return sky_over_ground(tmp_path / "data", {"train": 4, "val": 2})


@pytest.fixture
def finished(data, tmp_path, tiny):
    run(data, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 4}, "batch_size: 4, but the run in .* began with 2: give what it began with, or another --out"),
        ({"schedule": {"epochs": 2}}, "schedule.epochs: 2, but the run in .* began with 1"),
        ({"optimizer": {"name": "sgd", "lr": 3e-3}}, 'optimizer.name: "sgd", but the run in .* began with "adamw"'),
    ],
)
def test_another_recipe_is_refused_and_changes_nothing(data, finished, changes, message):
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(RecipeError, match=message):
        run(data, finished, resume=True, **changes)
    assert {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_what_a_machine_decides_may_change(data, finished):
    run(data, finished, resume=True, description="again", validate_every=2, precision="auto")


def test_a_run_of_an_older_version_goes_on(finished):
    """Its recipe lacks the keys that came since, or has some that went."""
    kept = read_progress(finished / CHECKPOINT)
    recipe, classes, photos = Recipe.model_validate(RECIPE), tuple(kept["classes"]), kept.pop("photos")
    older = {**kept["settings"], "augment": {"crop": RECIPE["augment"]["crop"]}}
    refuse_another_run(finished / CHECKPOINT, {**kept, "settings": older}, recipe, classes, photos)
    other = {**kept["settings"], "gone": 1}
    with pytest.raises(RecipeError, match=r"is of a version of Atrous whose recipes had other keys"):
        refuse_another_run(finished / CHECKPOINT, {**kept, "settings": other}, recipe, classes, photos)


def test_other_classes_are_refused(data, finished, tmp_path):
    (tmp_path / "other").mkdir()
    other = sky_over_ground(tmp_path / "other", {"train": 4, "val": 2})
    text = (other / "classes.json").read_text()
    (other / "classes.json").write_text(text.replace("sky", "heaven"))
    with pytest.raises(RecipeError, match="--data: its classes are not those of the run in"):
        run(other, finished, resume=True)


@pytest.mark.parametrize("damage", ["a photo less", "another mask"])
def test_other_photos_are_refused(data, finished, damage):
    if damage == "a photo less":
        split = "train"
        (data / "images/train/3.png").unlink()
    else:
        split = "val"
        Image.fromarray(np.zeros((40, 48), np.uint8)).save(data / "masks/val/1.png")
    with pytest.raises(RecipeError, match=f"--data: photos or masks of {split} are not those that the run in .* began"):
        run(data, finished, resume=True)


def test_the_same_photos_elsewhere_are_the_same(data, finished, tmp_path):
    run(data.rename(tmp_path / "moved"), finished, resume=True)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_cut_checkpoint_is_one_line(data, finished, share):
    content = (finished / CHECKPOINT).read_bytes()
    (finished / CHECKPOINT).write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecipeError, match=r"last\.ckpt: is damaged or no checkpoint: put a whole one there"):
        run(data, finished, resume=True)


def test_a_training_whose_loss_is_no_number_stops(data, tmp_path, tiny, monkeypatch):
    def lost(self, images, labels):
        return next(self.parameters()).sum() * torch.nan

    monkeypatch.setattr(Trainee, "loss", lost)
    with pytest.raises(RecipeError, match=r"epoch 1: the loss is nan, .*optimizer\.lr, 0\.003 here, is too high"):
        run(data, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def tried(data, out, changes):
    train(changed_recipe(load_recipe("camvid_small"), changes), data, out, workers=0, device="cpu")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"val_scale": float("inf")}, "val_scale"),
        ({"optimizer.lr": float("inf")}, "optimizer.lr"),
        ({"model.name": "deeplabv3_mobilenet_v2_050", "model.options": {"aspp_rates": [0, 1, 2]}}, "model"),
    ],
)
def test_what_no_run_can_have_is_refused_by_its_key(data, tmp_path, changes, key):
    with pytest.raises(RecipeError, match=key):
        tried(data, tmp_path / "run", changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("split", "harm", "message"),
    [
        ("val", "void", r"all pixels of val are void \(255\)"),
        ("train", "void", r"all pixels of train are void"),
        ("val", "cut", r"images/val/.*png"),
        ("val", "label", r"masks/val/.*png"),
    ],
)
def test_data_that_no_run_could_use_is_told_before_a_step(data, tmp_path, tiny, split, harm, message):
    masks = sorted((data / "masks" / split).iterdir())
    if harm == "cut":
        photo = sorted((data / "images" / split).iterdir())[-1]
        photo.write_bytes(photo.read_bytes()[:40])
    for path in masks if harm == "void" else masks[-1:]:
        labels = np.array(Image.open(path))
        labels[:] = {"void": 255, "label": 9}.get(harm, labels)
        if harm != "cut":
            Image.fromarray(labels).save(path)
    with pytest.raises(AtrousError, match=message):
        run(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
