"""8 bits: a network that was trained for them, rounded as it was there, on the engine that computes with integers."""

import json
import sys
from dataclasses import replace
from types import ModuleType

import cv2
import numba
import numpy as np
import pytest
import torch

import atrous
from atrous.data import read_image
from atrous.errors import AtrousError
from atrous.export.steps import find_steps
from atrous.inference import Predictor
from atrous.inference.engines import auto, names, openvino_int8
from atrous.inference.engines.folding import folded
from atrous.inference.engines.parts import pooled_in_parts, steps_in_parts
from atrous.inference.engines.quantised import from_steps, quantised, rounded, to_steps
from atrous.layers import ASPP
from atrous.models import create_model
from atrous.weights import load_model, save_model
from atrous.weights.quantisation import INPUT
from atrous.weights.tflite import load_tflite
from networks import deviation, randomise
from tflite_files import draw_deeplab, pack

CPU = torch.device("cpu")
INT8 = "openvino-int8"


def needs_int8() -> None:
    if names._obstacle(INT8, CPU):
        pytest.skip(names._obstacle(INT8, CPU))


@pytest.fixture(scope="module")
def file(tmp_path_factory, litert: ModuleType):
    """A file of the published ones' shape with random weights, and what is in it."""
    path = tmp_path_factory.mktemp("quantised") / "drawn.tflite"
    drawn = draw_deeplab(litert.schema_py_generated, per_axis=True)
    path.write_bytes(pack(drawn.model))
    return path, drawn


@pytest.fixture(scope="module")
def converted(file):
    return load_tflite(file[0])


def noise(*size: int) -> torch.Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_card_holds_every_step_of_the_file(file, converted):
    _, drawn = file
    found = converted.card.quantisation
    image, *others = [tensor.quantization for tensor in drawn.graph.tensors if tensor.quantization]
    assert found.activations[INPUT] == (image.scale[0], image.zeroPoint[0])
    known = {(each.scale[0], each.zeroPoint[0]) for each in others}
    assert {step for name, step in found.activations.items() if name != INPUT} <= known
    convolutions = {name for name, module in converted.model.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert set(found.weights) == convolutions
    assert len(drawn.layers) == len(convolutions)
    for name, steps_of_one in found.weights.items():
        weight = converted.model.get_submodule(name).weight.double()
        whole = weight / torch.tensor(steps_of_one, dtype=torch.float64)[:, None, None, None]
        assert (whole - whole.round()).abs().max() < 1e-4  # each weight is so many steps
    blocks = converted.model.backbone.blocks
    added = {f"backbone.blocks.{index}" for index, block in enumerate(blocks) if block.has_shortcut}
    assert {name for name in found.activations if name.count(".") == 2 and "blocks" in name} == added


def test_a_saved_model_keeps_its_steps(converted, tmp_path):
    save_model(converted.model, converted.card, tmp_path, dtype=torch.float16)
    model, card = load_model(tmp_path)
    assert card == converted.card
    x = noise(65, 65)
    with torch.inference_mode():  # half precision moves no weight from one step to the next
        ours, theirs = (quantised(each, card.quantisation).coarse_logits(x) for each in (model, converted.model))
    assert torch.equal(model.logits.weight, converted.model.logits.weight.half().float())
    assert deviation(ours, theirs) < deviation(converted.model.coarse_logits(x), theirs)


def test_a_card_without_steps_does_not_speak_of_them(converted, tmp_path):
    save_model(converted.model, replace(converted.card, quantisation=None), tmp_path)
    assert "quantisation" not in json.loads((tmp_path / "config.json").read_text())


@pytest.mark.parametrize("wrong", [[0.0, 0], [-1.0, 0], [0.1, 256], [0.1, -1], [float("nan"), 0]])
def test_steps_that_cannot_be_are_told(converted, tmp_path, wrong):
    save_model(converted.model, converted.card, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantisation"]["activations"]["logits"] = wrong
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AtrousError, match=r"config\.json: .* \(quantisation of 'logits' by steps"):
        load_model(tmp_path)


def test_results_and_weights_are_whole_steps(converted):
    quantisation = converted.card.quantisation
    twin = quantised(converted.model, quantisation)
    results = {}
    for name in quantisation.activations:
        if name != INPUT:
            twin.get_submodule(name).register_forward_hook(
                lambda _, inputs, result, name=name: results.update({name: result})
            )
    with torch.inference_mode():
        logits = twin.coarse_logits(noise(65, 97))
    assert len(results) == len(quantisation.activations) - 1
    for name, (step, zero_point) in quantisation.activations.items():
        if name != INPUT:
            result = results[name][0] if isinstance(results[name], tuple) else results[name]
            stored = result.double() / step + zero_point
            assert (stored - stored.round()).abs().max() < 1e-3
            assert stored.min() > -0.1
            assert stored.max() < 255.1
    assert torch.equal(logits, results["logits"])
    for name in quantisation.weights:
        weight = twin.get_submodule(name).weight
        assert all(len(channel.unique()) <= 255 for channel in weight.flatten(1))
    assert converted.model.logits.weight.data_ptr() != twin.logits.weight.data_ptr()
    assert not torch.nn.utils.parametrize.is_parametrized(converted.model.logits)


def test_integers_give_what_the_roundings_give(converted):
    """At sizes other than the one by which the graph was made. With small steps, so that large values are cut off."""
    needs_int8()
    model, quantisation = converted.model, converted.card.quantisation
    small = {name: (quantisation.activations[name][0] / 16, 0) for name in ("aspp.pointwise", "aspp.project")}
    quantisation = replace(quantisation, activations={**quantisation.activations, **small})
    engine, twin = names.start(INT8, model, CPU, quantisation), quantised(model, quantisation)
    for size in ((65, 65), (17, 49), (129, 33)):
        x = noise(*size)
        with torch.inference_mode():
            expected = twin.coarse_logits(x)
            assert deviation(engine.coarse_logits(x), expected) < 0.15
            assert deviation(model.coarse_logits(x), expected) > 0.3


@pytest.mark.parametrize("name", ["deeplabv3_mobilenet_v2_050", "torchvision_deeplabv3_mobilenet_v3_large"])
def test_in_parts_the_pooled_branch_is_rounded_as_it_was(name):
    """By the steps of a concatenation, and with several branches beside it."""
    model = randomise(create_model(name, num_classes=3, output_stride=16)).float()
    x = noise(65, 81)
    steps = find_steps(model, lambda folded_one: folded_one.coarse_logits(x))
    assert {f"{path}.project.conv" for path, module in model.named_modules() if isinstance(module, ASPP)} & {
        *steps.inputs
    }
    twin = pooled_in_parts(folded(model))
    assert not any(isinstance(module, ASPP) for module in twin.modules())
    rounded(twin, steps_in_parts(steps, twin))
    with torch.inference_mode():
        expected = quantised(model, steps).coarse_logits(x)
        # Sums in another order are now and then rounded to another step.
        assert deviation(twin.coarse_logits(x), expected) < deviation(model.coarse_logits(x), expected) / 5


@pytest.mark.parametrize("mean", [None, (0.485, 0.456, 0.406)])
def test_photos_in_steps_give_what_their_numbers_give(converted, make_photo, monkeypatch, mean):
    """With padding, by numba and without it; and where a photo's bytes are the steps themselves."""
    needs_int8()
    card = converted.card if mean is None else replace(converted.card, mean=mean)
    network, photo = Predictor(converted.model, card, CPU, INT8)._network, make_photo(49, 70)
    assert network._is_in_steps is (mean is None)
    for there in (True, False):
        if there:
            monkeypatch.setitem(sys.modules, "numba", numba)
        else:
            monkeypatch.delitem(sys.modules, "numba")
        steps = network._in_steps([photo], (65, 81), *converted.card.quantisation.activations[INPUT])
        numbers = network.normalise([photo], (65, 81))
        assert steps.dtype == torch.uint8
        assert torch.equal(steps, to_steps(numbers, *converted.card.quantisation.activations[INPUT]))
    assert torch.equal(network.of_photos([photo], (65, 81)), network.coarse_logits(numbers))
    assert network.engine.takes_steps(65, 81)


def test_steps_are_those_of_torchs_rounding():
    x = torch.linspace(-3, 3, 10_001)
    for step, zero_point in ((0.0078125, 128), (0.0186, 114), (0.01, 0), (0.01, 255)):
        steps = to_steps(x, step, zero_point)
        expected = torch.fake_quantize_per_tensor_affine(x, step, zero_point, 0, 255)
        assert (from_steps(steps, step, zero_point) - expected).abs().max() < 1e-6


def test_auto_is_given_steps_once_8_bits_are_chosen(converted, make_photo, monkeypatch, tmp_path):
    needs_int8()
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path))
    monkeypatch.setattr(auto, "_shortest", lambda engines, x: {name: float(name != INT8) for name in engines})
    predictor = Predictor(converted.model, converted.card, CPU, "auto")
    photo = make_photo(65, 65)
    assert not predictor._network.engine.takes_steps(65, 65)
    first = predictor(photo)
    assert predictor.engine == INT8
    assert predictor._network.engine.takes_steps(65, 65)
    assert not predictor._network.engine.takes_steps(650, 65)  # of another class, which may be quicker elsewhere
    assert np.array_equal(predictor(photo).labels, first.labels)


def test_a_size_that_keeps_coming_gets_a_graph_of_its_own_and_the_same_logits(converted, monkeypatch):
    needs_int8()
    from atrous.inference.engines import openvino

    monkeypatch.setattr(openvino, "_OFTEN", 3)
    engine = names.start(INT8, converted.model, CPU, converted.card.quantisation)
    x = noise(65, 97)
    open_sizes = engine.coarse_logits(x)
    assert not engine._own
    own_size = [engine.coarse_logits(x) for _ in range(3)][-1]
    assert list(engine._own) == [(1, 65, 97, 3)]
    assert torch.equal(own_size, open_sizes)


def test_a_runtime_that_computes_something_else_is_refused(converted, monkeypatch):
    needs_int8()
    right = openvino_int8.OpenVino.coarse_logits
    monkeypatch.setattr(openvino_int8.OpenVino, "coarse_logits", lambda self, x: right(self, x).roll(1, dims=1))
    with pytest.raises(AtrousError, match=r"this OpenVINO gives logits that are off by .*give engine='openvino'"):
        names.start(INT8, converted.model, CPU, converted.card.quantisation)


def test_other_models_do_not_run_in_8_bits():
    needs_int8()
    with pytest.raises(AtrousError, match=r"engine 'openvino-int8' needs the steps .* `atrous calibrate`") as caught:
        atrous.load("street", "cpu", engine=INT8)
    assert "\n" not in str(caught.value)


def test_auto_tries_8_bits_where_the_model_was_trained_for_them(converted):
    needs_int8()
    model, quantisation = converted.model, converted.card.quantisation
    assert INT8 in names.usable(CPU, model, quantisation)
    assert INT8 not in names.usable(CPU, model)
    keys = {auto.situation(model, CPU, names.usable(CPU, model, each), 8) for each in (None, quantisation)}
    assert len(keys) == 2  # what was measured without it is not what is fastest with it


def test_steps_of_another_model_are_refused(converted):
    other = replace(converted.card.quantisation, weights={"backbone.no_such": (1.0,)})
    refused = pytest.raises(AtrousError, match=r"a quantisation of backbone\.no_such, which the model does not have")
    with refused:
        quantised(converted.model, other)
    with refused:
        openvino_int8.OpenVinoInt8(converted.model, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeplabv3_mnv2_pascal_quant", "deeplabv3_mnv2_dm05_pascal_quant"])
def test_a_published_model_labels_photos_as_litert_does(name, litert, shared_data):
    """LiteRT with XNNPACK and without it agree little better with each other: 98.5 and 99.1 % of the pixels."""
    needs_int8()
    path = shared_data / "weights" / "coral" / f"{name}.tflite"
    ours = atrous.load(path, "cpu", engine=INT8)
    interpreter = litert.interpreter.Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    [entry], [result] = interpreter.get_input_details(), interpreter.get_output_details()
    photos = sorted((shared_data / "data" / "photos").glob("*.jpg"))
    agreement = []
    for index in np.linspace(0, len(photos) - 1, 12):
        photo = cv2.resize(read_image(photos[int(index)]), (513, 513))
        interpreter.set_tensor(entry["index"], photo[None])
        interpreter.invoke()
        agreement.append((ours(photo).labels == interpreter.get_tensor(result["index"])[0]).mean())
    print(f"{name}: {np.mean(agreement):.4f} of the pixels on average, at worst {min(agreement):.4f}")
    assert ours.engine == INT8
    assert np.mean(agreement) > 0.98
    assert np.median(agreement) > 0.985
