"""What is refused before a step runs, and what is only remarked on; the papers' own recipes are the measure."""

import json

import pytest

from atrous.errors import AtrousError, RecipeError
from atrous.training import Recipe, changed_recipe, load_recipe, oddities, train
from atrous.training.refusals import refuse_impossible
from data_sets import sky_over_ground

ASPP = {
    "model": {"name": "deeplabv3_mobilenet_v2_050", "options": {"aspp_rates": None}},
    "augment": {"crop": (129, 129)},
    "schedule": {"epochs": 1},
}
FROM_NOTHING = {"model.pretrained_backbone": None}


def recipe(**changes):
    return changed_recipe(Recipe.model_validate(ASPP), changes)


def changed(**changes):
    """`a__b` stands for the key a.b."""
    return recipe(**{key.replace("__", "."): value for key, value in changes.items()})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 3, "val": 1})


PAPERS = ("v1_largefov_voc", "v2_vgg16_aspp_voc", "v3_resnet101_voc", "v3_cascade_resnet101_voc")


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_what_the_papers_did_is_possible_and_not_odd(name):
    """A rate of 24 on maps of 41 positions in v2, of 64 on 65 in v3's cascade at output stride 8."""
    paper = changed_recipe(load_recipe(name), FROM_NOTHING)
    refuse_impossible(paper)
    assert not [line for line in oddities(paper) if "augment.crop" in line]


@pytest.mark.slow
def test_v2s_smallest_scale_is_odd_and_possible():
    """Its input at half of 321 pixels has maps of 21 positions, and a rate of 24."""
    paper = changed_recipe(load_recipe("v2_resnet101_msc_voc"), FROM_NOTHING)
    refuse_impossible(paper)
    at_crop, fixed = oddities(paper)
    assert "at rate 24 a 3×3 kernel on maps of 21×21 sees its own position alone" in at_crop
    assert "crops of 385 would do" in at_crop
    assert "model.fixed_batch_norm: the statistics of a network that has seen nothing" in fixed
    assert not [line for line in oddities(changed_recipe(paper, {"augment.crop": [385, 385]})) if "crop" in line]


def test_a_crop_on_which_no_rate_reaches_a_neighbour_is_refused_with_one_that_would_do():
    refuse_impossible(changed(augment__crop=[97, 97]))
    with pytest.raises(RecipeError, match=r"augment\.crop: 81×81 makes maps of 6×6.* 97 are the least, and 289 do"):
        refuse_impossible(changed(augment__crop=[81, 81]))
    refuse_impossible(changed(augment__crop=[81, 97]))  # to the sides the smallest rate does
    refuse_impossible(changed(augment__crop=[81, 81], model__output_stride=8, model__options={"aspp_rates": [6]}))


def test_a_crop_on_which_some_rates_reach_nothing_is_remarked_on():
    (line,) = oddities(changed(augment__crop=[129, 177]))
    assert line.startswith("augment.crop: at rate 12 and 18 a 3×3 kernel on maps of 9×12")
    assert "crops of 289 would do" in line
    assert oddities(changed(augment__crop=[289, 289])) == []


def test_a_crop_without_aligned_corners_is_remarked_on_only_where_corners_align():
    (line,) = oddities(changed(augment__crop=[320, 300]))
    assert line.startswith("augment.crop: 320×300 is not k·16 + 1")
    assert "321×305 is" in line
    assert oddities(changed_recipe(load_recipe("torchvision_resnet50_voc"), FROM_NOTHING)) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__options": {"asp_rates": [6]}}, "model: .* has no option 'asp_rates'; it takes aspp_rates"),
        ({"model__options": {"separable": True, "aspp_rates": 6}}, "model"),
        ({"model__output_stride": 64}, "model: output_stride=64 is not one of"),
        ({"optimizer__multipliers": {"fc8": 10}}, r"optimizer\.multipliers: .*'fc8'"),
        ({"model__pretrained_backbone": "imagenet"}, r"no package carries the ImageNet weights of mobilenet_v2_050"),
        ({"train_split": "trainaug"}, r"train_split: the data set has no split 'trainaug'; it has train, val"),
        ({"val_split": "test"}, r"val_split: the data set has no split 'test'; it has train, val"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_with_its_key(changes, message):
    with pytest.raises(RecipeError, match=message) as error:
        refuse_impossible(changed(**changes), ("train", "val"))
    assert "\n" not in str(error.value)


def test_a_later_stage_is_checked_before_the_first_one_runs(data, tmp_path):
    stages = [{"name": "a"}, {"name": "b", "train_split": "trainval"}]
    with pytest.raises(RecipeError, match=r"stages\.1: train_split: the data set has no split 'trainval'"):
        train(changed(stages=stages), data, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
    stages[1] = {"name": "b", "model": {"output_stride": 8, "options": {"aspp_rates": [36]}}}
    with pytest.raises(RecipeError, match=r"stages\.1: augment\.crop: 129×129 makes maps of 17×17"):
        refuse_impossible(changed(stages=stages))


def test_weights_that_are_not_there_and_lone_classes_are_refused_before_a_step(data, tmp_path):
    with pytest.raises(AtrousError, match=r"nowhere\.pth"):
        train(changed(model__pretrained_backbone="nowhere.pth"), data, tmp_path / "run", device="cpu")
    alone = sky_over_ground(tmp_path, {"train": 1, "val": 1})
    (alone / "classes.json").write_text(json.dumps({"classes": ["sky"]}))
    with pytest.raises(RecipeError, match="has one class, 'sky': name what lies around it"):
        train(recipe(), alone, tmp_path / "run", device="cpu")


def test_labels_beyond_the_classes_are_refused_before_a_step(tmp_path):
    folder = sky_over_ground(tmp_path, {"train": 1, "val": 1})
    (folder / "classes.json").write_text(json.dumps({"classes": ["sky", "ground"], "ignore_index": 254}))
    with pytest.raises(AtrousError, match=r"0\.png: holds the label 255") as error:
        train(recipe(), folder, tmp_path / "run", workers=1, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"loss": {"class_weights": [1, 2, 3]}}, "loss.class_weights: 3 numbers for the 2 classes sky and ground"),
        ({"model": {"options": {"image_pooling": False}}}, "model: the former stage's has other weights at aspp"),
        ({"precision": "fp16"}, "precision: fp16 needs a CUDA GPU"),
        ({"distill": {"temperature": 2}}, "give it to `atrous distill`"),
    ],
)
def test_what_a_later_stage_would_fail_by_is_refused_before_the_first(data, tmp_path, later, message):
    stages = [{"name": "a"}, {"name": "b", **later}]
    with pytest.raises(RecipeError, match=f"(stages.1: |distill: .*){message}"):
        train(changed(stages=stages), data, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
