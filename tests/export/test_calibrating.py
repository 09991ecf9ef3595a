"""8 bits by calibration: every convolution gets rounded numbers, by steps that fit, and what that costs is told."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import atrous
from atrous.data.blotches import blotches
from atrous.errors import AtrousError
from atrous.export import Calibrated, calibrate, calibrating
from atrous.export.calibration import Calibration
from atrous.export.places import places
from atrous.export.steps import Values, affine, find_steps
from atrous.inference import Predictor
from atrous.inference.engines.folding import folded
from atrous.inference.engines.names import INT8, _obstacle, start
from atrous.inference.engines.quantised import quantised
from atrous.models import create_model
from atrous.weights import ModelCard
from atrous.weights.quantisation import INPUT
from networks import deviation, image, randomise


@pytest.fixture(scope="module")
def street() -> Predictor:
    return atrous.load("street", "cpu")


def fill(folder: Path, seeds: range) -> None:
    """Photos of one size, each other than the next."""
    folder.mkdir(parents=True)
    for seed in seeds:
        photo = np.roll(blotches(97, 129), 17 * seed, (0, 1))
        Image.fromarray(np.ascontiguousarray(photo)).save(folder / f"{seed}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("calibrating") / "photos"
    fill(folder, range(6))
    return folder


@pytest.fixture(scope="module")
def calibrated(street, photos) -> Calibrated:
    return calibrate(street, photos)


@pytest.fixture
def in_floats(monkeypatch):
    """As on a processor without integer products; and an engine less to start."""

    def refuse(*_: object) -> None:
        raise AtrousError("not here")

    monkeypatch.setattr(calibrating, "check_engine", refuse)


KINDS = [
    "deeplabv3plus_mobilenet_v2_050",
    "deeplabv3plus_mobilenet_v3_small",
    pytest.param("smp_deeplabv3plus_mobilenet_v2", marks=pytest.mark.slow),
    pytest.param("deeplabv3_resnet50", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name", KINDS)
def test_every_convolution_takes_and_multiplies_whole_steps(name):
    model = randomise(create_model(name, num_classes=5)).float()
    x = image(65, 97).float()
    twin = quantised(model, find_steps(model, lambda folded_one: folded_one.coarse_logits(x)))
    kinds = {}
    for module_name, module in twin.named_modules():
        if isinstance(module, nn.Conv2d):
            assert all(len(channel.unique()) <= 255 for channel in module.weight.flatten(1))
            module.register_forward_pre_hook(
                lambda _, inputs, name=module_name: kinds.update({name: len(inputs[0].unique())})
            )
    with torch.inference_mode():
        rounded, exact = twin.coarse_logits(x), model.coarse_logits(x)
    assert len(kinds) > 20
    assert max(kinds.values()) <= 256
    assert 0 < deviation(rounded, exact) < 0.5  # random networks forgive little


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v2_050", "deeplabv3plus_mobilenet_v3_small"])
def test_rounded_weights_leave_means_where_they_were(name):
    """Each convolution by itself, on what it was shown; and so the network's result is nearer to the exact one."""
    model = randomise(create_model(name, num_classes=5)).float()
    x = image(65, 97).float() + 1
    steps = find_steps(model, lambda folded_one: folded_one.coarse_logits(x))
    exact = folded(model)
    corrected, plain = (
        quantised(model, replace(steps, activations={}, inputs={}, shifts=shifts)) for shifts in (steps.shifts, {})
    )
    assert steps.shifts.keys() == steps.weights.keys()
    taken = {}
    for each, module in exact.named_modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):  # a larger one sees the border as well
            module.register_forward_pre_hook(lambda _, inputs, name=each: taken.update({name: inputs[0]}))
    with torch.inference_mode():
        expected = exact.coarse_logits(x)
        assert len(taken) > 10
        for each, given in taken.items():
            mean, *others = (net.get_submodule(each)(given).mean((0, 2, 3)) for net in (exact, corrected, plain))
            errors = [float((other - mean).norm() / mean.norm()) for other in others]
            assert errors[0] < 1e-4
            assert errors[0] < errors[1] / 10
        assert deviation(corrected.coarse_logits(x), expected) < 0.8 * deviation(plain.coarse_logits(x), expected)


def test_what_a_shortcut_takes_is_rounded_once_where_it_is_made():
    """An addition of 8-bit numbers; were each convolution's input rounded for itself, it would be one of floats."""
    mobile = folded(create_model("deeplabv3_mobilenet_v2_050", num_classes=5).eval())
    found = places(mobile)
    blocks = mobile.backbone.blocks
    taken = {f"backbone.blocks.{index - 1}" for index, block in enumerate(blocks) if block.has_shortcut}
    assert taken
    assert taken <= set(found.results)
    residual = places(folded(create_model("torchvision_deeplabv3_resnet50", num_classes=5).eval()))
    units = {name for name in residual.results if name.count(".") == 2 and name.startswith("backbone.layer")}
    assert len(units) == 12  # of the 16 units, each block's last gives its numbers under the block's own name
    assert {f"backbone.layer{block}" for block in (1, 2, 3, 4)} <= set(residual.results)
    for each in (found, residual):
        assert INPUT in each.results
        assert len(set(each.results + each.inputs)) == len(each.results + each.inputs)
    # Before max pooling, which then has 8 bits to move.
    assert "backbone.relu" in residual.results
    assert "backbone.maxpool" not in residual.results


def squared_error(x: torch.Tensor, step: float, zero: int) -> float:
    return float((torch.fake_quantize_per_tensor_affine(x, step, zero, 0, 255) - x).square().mean())


def test_ranges_give_up_what_is_rare_and_far_out():
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).clamp(min=0)
    x[::20_000] = 40.0
    values = Values()
    values.add(x[None])
    step, zero = values.step()
    assert zero == 0
    assert values.largest == 40
    assert squared_error(x, step, zero) < squared_error(x, *affine(0.0, 40.0))
    best = min(squared_error(x, *affine(0.0, 40.0 * share / 100)) for share in range(5, 101))
    assert squared_error(x, step, zero) < 1.05 * best


def test_ranges_keep_what_is_often_at_their_ends():
    """As after ReLU6: what is cut off there would be most of the map."""
    values = Values()
    values.add(torch.cat([torch.linspace(0, 6, 1000), torch.full((4000,), 6.0)])[None])
    assert values.step() == (pytest.approx(6 / 255), 0)


def test_ranges_do_not_depend_on_the_photos_order():
    generator = torch.Generator().manual_seed(0)
    shown = [torch.randn(5000, generator=generator) * size for size in (1e-4, 3.0, 0.5, 20.0)]
    steps = []
    for order in (shown, shown[::-1]):
        values = Values()
        for x in order:
            values.add(x)
        steps.append(values.step())
    assert steps[0] == steps[1]


def test_a_tensor_of_zeros_has_a_step():
    values = Values()
    values.add(torch.zeros(4, 4))
    assert values.step() == (1.0, 0)


def test_what_is_told_is_what_the_saved_model_gives(street, calibrated, photos, tmp_path):
    assert calibrated.photos == (3, 3)
    assert calibrated.loss.miou is None
    assert 0.8 < calibrated.loss.agreement < 1
    saved = calibrated.predictor.save(tmp_path / "street8")
    engine = "torch" if _obstacle(INT8, street.device) else INT8
    ours = atrous.load(saved, "cpu", engine=engine)
    assert ours.card.quantisation == calibrated.predictor.card.quantisation
    assert ours.card.provenance["calibration"]["held_out"] == 3
    if engine == "torch":
        ours = Predictor(quantised(ours.model, ours.card.quantisation), ours.card, "cpu")
    held_out = [photos / f"{number}.png" for number in (1, 3, 5)]
    same = [(ours(path).labels == street(path).labels).mean() for path in held_out]
    assert np.mean(same) == pytest.approx(calibrated.loss.agreement, abs=1e-12)
    # In floats nothing has changed.
    assert (atrous.load(saved, "cpu")(held_out[0]).labels == street(held_out[0]).labels).all()


def test_integers_give_what_the_roundings_give(street, calibrated):
    """At sizes other than the one by which the graph was made."""
    reason = _obstacle(INT8, street.device)
    if reason:
        pytest.skip(reason)
    steps = calibrated.predictor.card.quantisation
    engine, twin = start(INT8, street.model, street.device, steps), quantised(street.model, steps)
    for height, width in ((97, 129), (65, 209)):
        x = street._network.normalise([blotches(height, width)], (height, width))
        with torch.inference_mode():
            rounded, exact = twin.coarse_logits(x), street.model.coarse_logits(x)
            apart = deviation(engine.coarse_logits(x), rounded)
        print(
            f"{height}×{width}: {apart:.3f} from the roundings, which are {deviation(rounded, exact):.3f} from floats"
        )
        assert apart < 0.15
        assert apart < deviation(rounded, exact)


def test_photos_that_judge_are_not_those_that_were_seen(street, photos, tmp_path):
    drawn = Calibration(photos, street.classes)
    assert [path.stem for path in drawn._seen] == ["0", "2", "4"]
    assert drawn.held_out == [1, 3, 5]
    fill(tmp_path / "one", range(1))
    with pytest.raises(AtrousError, match="one: holds one photo; give two or more, of which some are held out"):
        Calibration(tmp_path / "one", street.classes)


def test_a_labelled_folder_shows_its_train_photos_and_is_judged_on_val(street, tmp_path, in_floats):
    for split, seeds in (("train", range(2)), ("val", range(2, 5))):
        fill(tmp_path / "images" / split, seeds)
        (tmp_path / "masks" / split).mkdir(parents=True)
        for seed in seeds:
            labels = street(tmp_path / "images" / split / f"{seed}.png").labels
            Image.fromarray(labels).save(tmp_path / "masks" / split / f"{seed}.png")
    about = {"classes": street.classes, "palette": street.card.palette}
    (tmp_path / "classes.json").write_text(json.dumps(about))
    done = calibrate(street, tmp_path)
    assert done.photos == (2, 3)
    assert done.loss.miou is not None
    assert done.loss.miou[1] == 1  # the masks are the float model's own
    assert 0.5 < done.loss.miou[0] < 1


def test_a_network_that_8_bits_spoil_is_refused(street, photos, in_floats, monkeypatch):
    monkeypatch.setattr(calibrating, "LEAST_AGREEMENT", 1.1)
    with pytest.raises(AtrousError, match=r"8 bits keep only \d.* of the labels") as caught:
        calibrate(street, photos)
    assert "\n" not in str(caught.value)


def test_a_network_of_several_scales_is_refused(photos):
    card = ModelCard(tuple("abc"), ((0, 0, 0),) * 3)
    several = Predictor(create_model("deeplabv3_mobilenet_v2_050", num_classes=3, multi_scale=(0.5, 1.0)), card, "cpu")
    with pytest.raises(AtrousError, match="calibrate its `single`"):
        calibrate(several, photos)
