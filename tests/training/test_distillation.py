"""A teacher's labels: kept, brought to where a crop's pixels came from, and learnt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from atrous.data import Augmentation, Classes, open_dataset
from atrous.data.masks import PictureMasks
from atrous.errors import AtrousError, RecipeError
from atrous.evaluation import ConfusionMatrix, Evaluation, evaluate
from atrous.inference import Predictor, load
from atrous.models import create_model
from atrous.ops import upsample_cross_entropy
from atrous.training import CHECKPOINT, Recipe, Trainee, train
from atrous.training.distillation import (
    SoftCrops,
    SoftLesson,
    TaughtPhotos,
    distill,
    soft_cross_entropy,
    soft_lesson,
    soften,
    teach,
)
from atrous.training.distillation.agreement import agreement
from atrous.training.recipe import DistillRecipe
from atrous.training.samples import EpochSampler, TrainingCrops
from atrous.weights import ModelCard, read_card, save_model
from data_sets import photo, sky_over_ground
from together import together

CLASSES = Classes(("sky", "ground"), ((0, 0, 9), (9, 9, 0)))
CARD = ModelCard(CLASSES.names, CLASSES.palette, licence="CC0")
RECIPE = {
    "model": {"name": "deeplabv3_mobilenet_v2_050", "batch_norm_momentum": 0.5},
    "augment": {"crop": (33, 33), "scale": (0.8, 1.2)},
    "optimizer": {"name": "adamw", "lr": 3e-3},
    "schedule": {"epochs": 10},
    "distill": {"held_out": 2},
    "batch_size": 2,
    "ema_decay": 0.5,
    "seed": 5,
}


def recipe(**changes):
    return Recipe.model_validate({**RECIPE, **changes})


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=2)
    torch.nn.init.normal_(model.logits.weight, std=5.0)  # random logits hardly differ; these do
    with torch.no_grad():  # and neither class prevails
        model.logits.bias -= model.eval().coarse_logits(torch.rand(4, 3, 49, 49) * 2 - 1).mean((0, 2, 3))
    return Predictor(model, CARD, device="cpu")


@pytest.fixture
def photos(tmp_path):
    return [photo(tmp_path / "photos" / f"{index}.png", index, (41 + index, 50)) for index in range(3)]


def taught_by_masks(root: Path, split: str) -> TaughtPhotos:
    """Photos whose teacher is right, and nine tenths sure of it; of void it thinks as of sky."""
    data = open_dataset(root, split)
    labels, soft = [], []
    for index, image in enumerate(data.images):
        mask = data.mask(index) % 255
        labels.append(root / f"{split}-{image.stem}.png")
        soft.append(root / f"{split}-{image.stem}.npy")
        Image.fromarray(mask).save(labels[-1])
        np.save(soft[-1], np.stack([0.9 - 0.8 * mask, 0.1 + 0.8 * mask]).astype(np.float16))
    return TaughtPhotos(tuple(data.images), tuple(labels), tuple(soft), CLASSES)


def lesson_of(root, labelled=None):
    train_photos = taught_by_masks(root, "train")
    return SoftLesson(
        train=train_photos.dataset(root, "taught"),
        val=taught_by_masks(root, "val").dataset(root, "held out"),
        taught=train_photos,
        labelled=labelled,
        teacher={"name": "masks", "licence": "CC0"},
        held_out=True,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 5, "val": 2})


def test_the_kept_labels_are_the_teachers(teacher, photos, tmp_path):
    taught = teach(teacher, photos, tmp_path / "kept", scales=(0.5, 1.0), flip=True)
    for path, labels, soft in zip(taught.images, taught.labels, taught.soft, strict=True):
        said = teacher(path, scales=(0.5, 1.0), flip=True, scores=True)
        assert 0.02 < (said.labels == 0).mean() < 0.98  # the teacher says both
        assert np.array_equal(PictureMasks(CLASSES)(path, labels), said.labels)
        kept, scores = np.load(soft), said.scores()
        corners = np.ix_(range(2), (0, -1), (0, -1))
        np.testing.assert_allclose(kept[corners], scores[corners], atol=1e-3)


def test_a_photo_is_labelled_once_and_anew_when_it_or_its_teacher_changes(teacher, photos, tmp_path, monkeypatch):
    asked: list[list[str]] = []
    plain = Predictor.stream

    def stream(self, sources, **options):
        asked.append([source.name for source in sources])
        return plain(self, sources, **options)

    monkeypatch.setattr(Predictor, "stream", stream)
    first = teach(teacher, photos, tmp_path / "kept")
    first.soft[1].unlink()  # as if it had been stopped there
    assert teach(teacher, photos, tmp_path / "kept") == first
    photo(photos[2], seed=9)
    teach(teacher, photos, tmp_path / "kept")
    teach(teacher, photos, tmp_path / "kept", flip=True)
    with torch.no_grad():
        teacher.model.logits.bias += 0.5
    teach(teacher, photos, tmp_path / "kept")
    every = ["0.png", "1.png", "2.png"]
    assert asked == [every, ["1.png"], ["2.png"], every, every]


@pytest.mark.parametrize("align_corners", [True, False])
def test_soft_labels_follow_the_crop(tmp_path, align_corners):
    """A ramp in the photo and in what the teacher says of it: each point's probability is the pixel's own colour."""
    height, width = 60, 90
    ramp = np.linspace(0, 1, width)
    image = np.broadcast_to((ramp * 255).round()[None, :, None], (height, width, 3)).astype(np.uint8)
    coarse = np.broadcast_to(np.linspace(0, 1, 13), (9, 13))
    np.save(tmp_path / "0.npy", np.stack([1 - coarse, coarse]).astype(np.float16))
    pairs = [(image, np.zeros((height, width), np.uint8))]
    crops = TrainingCrops(pairs, Augmentation((65, 65), (0.7, 1.5)), CARD, seed=2)
    samples = SoftCrops(crops, [tmp_path / "0.npy"], DistillRecipe(confidence=0.0), align_corners)
    falling, outside = 0, 0
    for number in range(40):
        seen, labels, targets = samples[number]
        assert (labels == 255).all()
        weight = targets.sum(0)
        red = seen[0] * 0.5 + 0.5
        # Without aligned corners the points lie between pixels.
        at = red[::4, ::4] if align_corners else F.interpolate(red[None, None], 17, mode="bilinear")[0, 0]
        counts = weight > 0.5
        beside = F.max_pool2d((~counts).float()[None, None], 3, 1, 1)[0, 0] > 0  # where the padding's colour mixes in
        clear = counts & ~beside & (at > 0.02) & (at < 0.98)
        assert (targets[1] - at)[clear].abs().max() < 0.012
        falling += int((targets[1, 8].diff()[clear[8, 1:]] < 0).any())
        outside += int((~counts).sum())
        assert torch.allclose(weight, counts.float(), atol=2e-3)
    assert 10 < falling < 30  # mirrored about every other time
    assert outside > 0


def test_softer_labels_and_the_weight_of_unsure_ones_by_hand():
    probabilities = torch.tensor([[0.8, 0.5, 0.0], [0.2, 0.5, 0.0]])[:, None]
    found = soften(probabilities, DistillRecipe(temperature=2.0, confidence=3.0))
    root = torch.tensor([0.8, 0.2]).sqrt()
    torch.testing.assert_close(found[:, 0, 0], root / root.sum() * 0.8**3)
    torch.testing.assert_close(found[:, 0, 1], torch.tensor([0.5, 0.5]) * 0.5**3)
    assert (found[:, 0, 2] == 0).all()  # no photo there
    torch.testing.assert_close(soften(probabilities, DistillRecipe())[:, 0, 0], torch.tensor([0.64, 0.16]))


def test_sure_labels_give_the_cross_entropy_of_hard_ones():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, 7), torch.randint(0, 3, (2, 9, 13))
    labels[:, :4] = 255
    known = labels != 255
    targets = (F.one_hot(labels.where(known, torch.tensor(0)), 3) * known[..., None]).movedim(-1, 1).float()
    for align_corners in (True, False):
        expected = upsample_cross_entropy(logits, labels, align_corners=align_corners)
        torch.testing.assert_close(soft_cross_entropy(logits, targets, align_corners=align_corners), expected)


def test_a_student_that_says_what_its_teacher_says_learns_no_more():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 6, 6, requires_grad=True)
    for temperature in (1.0, 3.0):
        weight = torch.rand(1, 1, 6, 6)
        targets = (logits.detach() / temperature).softmax(1) * weight
        (same,) = torch.autograd.grad(soft_cross_entropy(logits, targets, temperature), logits)
        (other,) = torch.autograd.grad(soft_cross_entropy(logits, targets.flip(1), temperature), logits)
        assert same.abs().max() < 1e-6 < other.abs().max()
    (nothing,) = torch.autograd.grad(soft_cross_entropy(logits, torch.zeros(1, 4, 6, 6)), logits)
    assert (nothing == 0).all()


def unevenly_weighted():
    """Three images, of which the second hardly counts."""
    generator = torch.Generator().manual_seed(0)
    logits, weight = torch.randn(3, 4, 5, 5, generator=generator), torch.rand(3, 1, 5, 5, generator=generator)
    weight[1] *= 0.1
    return logits, torch.rand(3, 4, 5, 5, generator=generator).softmax(1) * weight


def judge_together(folder):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    logits, targets = (each[rank::2] for each in unevenly_weighted())
    loss = soft_cross_entropy(logits.requires_grad_(), targets)
    loss.backward()
    torch.save((loss.detach(), logits.grad), folder / str(rank))


@pytest.mark.slow
def test_the_loss_of_processes_is_that_of_their_whole_batch(tmp_path):
    together(2, judge_together, tmp_path)
    (first, even), (second, odd) = (torch.load(tmp_path / str(rank)) for rank in range(2))
    logits, targets = unevenly_weighted()
    whole = soft_cross_entropy(logits.requires_grad_(), targets)
    whole.backward()
    torch.testing.assert_close((first + second) / 2, whole.detach())
    torch.testing.assert_close(torch.stack([even[0], odd[0], even[1]]) / 2, logits.grad)


def test_labelled_photos_take_their_share_of_samples_and_loss(data):
    lesson, quarter = lesson_of(data, open_dataset(data, "val")), recipe(distill={"labelled": 0.25})
    pupil = lesson.trainee(create_model("deeplabv3_mobilenet_v2_050", num_classes=2), quarter).eval()
    samples = lesson.samples(pupil, CARD)
    assert len(samples) == 5 + 2
    sampler = EpochSampler(7, 3, lesson.shares(quarter))
    drawn = []
    for epoch in range(300):
        sampler.set_epoch(epoch)
        drawn += [number % 7 for number in sampler]
    assert np.mean(np.array(drawn) >= 5) == pytest.approx(0.25, abs=0.03)
    alone = TrainingCrops(open_dataset(data, "val"), Augmentation((33, 33), (0.8, 1.2)), CARD, seed=5)
    image, labels, nothing = samples[7 + 6]  # the second labelled photo, in the second epoch
    assert torch.equal(image, alone[2 + 1][0])
    assert torch.equal(labels, alone[2 + 1][1])
    assert (nothing == 0).all()
    batch = [torch.stack(parts) for parts in zip(samples[0], samples[6], strict=True)]
    logits = pupil.model.coarse_logits(batch[0])
    soft, hard = soft_cross_entropy(logits, batch[2]), upsample_cross_entropy(logits, batch[1])
    torch.testing.assert_close(pupil.loss(*batch), 0.75 * soft + 0.25 * hard)


def test_agreement_by_hand():
    confusion = ConfusionMatrix(("background", "cat", "dog"))
    confusion.counts[:] = [[50, 5, 0], [3, 20, 4], [2, 6, 10]]
    found = agreement(Evaluation(confusion))
    assert found.pixels == 0.8
    assert found.foreground_iou == pytest.approx(40 / 50)  # a cat that is called a dog is foreground all the same
    assert found.foreground_miou == pytest.approx((20 / 38 + 10 / 22) / 2)
    assert found.miou == pytest.approx((50 / 60 + 20 / 38 + 10 / 22) / 3)


@pytest.mark.slow
def test_a_student_learns_from_photos_alone_and_its_card_says_of_whom(teacher, data, tmp_path):
    found = distill(recipe(), lesson_of(data), tmp_path / "run", workers=0, device="cpu")
    assert found.pixels > 0.8  # one class everywhere has less than .7; ten steps of two photos end here or there
    assert found.foreground_iou is None  # there is no background here
    provenance = read_card(tmp_path / "run")[1].provenance
    assert provenance["teacher"] == {"name": "masks", "licence": "CC0"}
    assert provenance["trained_on"] == f"5 photos of {data.name}, labelled by masks"
    assert provenance["agreement"] == found.to_dict()
    judged = evaluate(load(tmp_path / "run"), lesson_of(data).val).scores
    assert (round(judged.pixel_accuracy, 4), round(judged.miou, 4)) == (found.pixels, found.miou)


class KilledError(Exception):
    pass


@pytest.mark.slow
def test_a_stopped_student_goes_on_as_if_never_stopped(data, tmp_path, monkeypatch):
    short = recipe(schedule={"epochs": 3})
    lesson = lesson_of(data, open_dataset(data, "train"))
    distill(short, lesson, tmp_path / "whole", workers=0, device="cpu")
    steps = 0
    plain = Trainee.training_step

    def step_until_killed(self, batch, index):
        nonlocal steps
        steps += 1
        if steps == 7:
            raise KilledError
        return plain(self, batch, index)

    monkeypatch.setattr(Trainee, "training_step", step_until_killed)
    with pytest.raises(KilledError):
        distill(short, lesson, tmp_path / "broken", workers=0, device="cpu")
    monkeypatch.undo()
    distill(short, lesson, tmp_path / "broken", resume=True, workers=0, device="cpu")
    states = [torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["state_dict"] for name in ("whole", "broken")]
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []


def test_held_out_photos_are_drawn_by_the_seed_and_never_learnt(teacher, photos, tmp_path):
    saved = save_model(teacher.model, CARD, tmp_path / "model")
    folder = photos[0].parent
    lessons = [
        soft_lesson(recipe(distill={"held_out": 1}, seed=seed), saved, folder, tmp_path / "kept", device="cpu")
        for seed in (0, 0, 1, 2, 3)
    ]
    for lesson in lessons:
        assert {*lesson.train.images} | {*lesson.val.images} == {*photos}
        assert {*lesson.train.images}.isdisjoint(lesson.val.images)
        assert lesson.taught.images == tuple(lesson.train.images)
    assert lessons[0].val.images == lessons[1].val.images
    assert len({lesson.val.images[0] for lesson in lessons}) > 1


def test_a_recipe_for_a_student_is_not_trained_on_masks(data, tmp_path):
    with pytest.raises(RecipeError, match=r"distill: .* `atrous distill`"):
        train(recipe(), data, tmp_path / "run", workers=0, device="cpu")


def test_a_stage_learns_by_its_own_section(data):
    lesson = lesson_of(data, open_dataset(data, "val"))
    hot = {"name": "b", "distill": {"temperature": 3, "labelled": 0.25, "confidence": 0}}
    first, second = recipe(distill={"held_out": 2}, stages=[{"name": "a"}, hot]).stage_recipes()
    for stage, temperature, labelled in ((first, 1, 0.5), (second, 3, 0.25)):
        pupil = lesson.trainee(create_model("deeplabv3_mobilenet_v2_050", num_classes=2), stage)
        assert (pupil.temperature, pupil.labelled) == (temperature, labelled)
        assert lesson.shares(stage)[-2:].sum() == pytest.approx(labelled)
        assert lesson.samples(pupil, CARD).settings == stage.distill


def test_what_cannot_be_is_refused_before_the_teacher_begins(teacher, photos, tmp_path):
    teacher_folder = save_model(teacher.model, teacher.card, tmp_path / "teacher")
    refused = {
        r"stages\.1\.distill\.held_out: the photos are drawn once": {
            "stages": [{"name": "a"}, {"name": "b", "distill": {"held_out": 2}}]
        },
        r"stages\.1: precision: fp16 needs a CUDA GPU": {"stages": [{"name": "a"}, {"name": "b", "precision": "fp16"}]},
        r"nowhere\.pth": {"model": {"name": "deeplabv3_mobilenet_v2_050", "pretrained_backbone": "nowhere.pth"}},
        r"class_weights: 3 numbers for the 2 classes sky and ground": {"loss": {"class_weights": [1, 2, 3]}},
    }
    for message, changes in refused.items():
        changed = recipe(**{"distill": {"held_out": 1}, **changes})
        with pytest.raises(AtrousError, match=message):
            soft_lesson(changed, teacher_folder, photos[0].parent, tmp_path / "labels", device="cpu")
    assert not (tmp_path / "labels").exists()


def test_photos_that_came_meanwhile_are_refused(data):
    """Other ones would be held out to judge, and some of those that judged were trained on."""
    lesson = lesson_of(data, open_dataset(data, "val"))
    begun = lesson.fingerprints()
    assert [key.split(":")[0] for key in begun] == ["--photos", "--photos", "--data"]
    fewer = replace(lesson, val=lesson.train)
    assert {key for key, value in fewer.fingerprints().items() if begun[key] != value} == {list(begun)[1]}
