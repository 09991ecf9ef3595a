"""`atrous train NAME`: the recipes that come with Atrous, without a path."""

import subprocess
import sys

import pytest

from atrous.settings import shipped_recipes
from data_sets import folder


@pytest.fixture
def labelled(tmp_path):
    return folder(tmp_path / "data", {"train": 1, "val": 1})


def test_recipes_are_listed_with_what_they_say_of_themselves_and_without_torch():
    code = "import sys; from atrous.cli.main import app; app(['train', '--recipes'], standalone_mode=False)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    *lines, torch_is_there = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_recipes())
    assert lines[list(shipped_recipes()).index("v3_resnet101_voc")].endswith(
        "  v3 on ResNet-101 in two stages, PASCAL VOC 2012 with SBD's masks, 21 classes"
    )
    assert torch_is_there == "False"


def test_a_name_is_a_recipe_and_what_it_lacks_is_asked_for(atrous, labelled, tmp_path):
    args = ("--data", labelled, "--out", tmp_path / "run", "--set", "train_split=train")
    result = atrous("train", "v3_resnet101_voc", *args)
    assert result.exit_code == 2
    assert "no package carries the ImageNet weights of resnet101: give a checkpoint" in result.stderr
    assert not (tmp_path / "run").exists()
    result = atrous("train", "v9", *args)
    assert result.exit_code == 2
    assert "no recipe of that name; there are camvid," in result.stderr


def test_what_is_odd_is_said_before_the_run(atrous, labelled, tmp_path):
    args = ("--set", "model.pretrained_backbone=null", "--set", "augment.crop=[129, 128]", "--set", "val_split=test")
    result = atrous("train", "camvid", "--data", labelled, "--out", tmp_path / "run", *args)
    assert result.exit_code == 2
    not_aligned, too_small, error = result.stderr.strip().splitlines()
    assert not_aligned.startswith("atrous: augment.crop: 129×128 is not k·16 + 1")
    assert too_small.startswith("atrous: augment.crop: at rate 12 and 18 a 3×3 kernel on maps of 9×8")
    assert error == "atrous: error: val_split: the data set has no split 'test'; it has train, val"
