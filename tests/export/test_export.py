"""Exports: files that other runtimes read, and that give what `Predictor` gives; or nothing at all."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous.errors import AtrousError
from atrous.export import FORMATS, export_model, exporting
from atrous.export.compared import Comparison, blotches, compare_on
from atrous.export.deployed import Deployed
from atrous.inference import Predictor
from atrous.inference.engines.folding import folded
from atrous.models import create_model
from atrous.weights import ModelCard

SIZES = [(1, 1), (33, 50), (97, 131), (128, 128)]


@pytest.fixture(scope="module")
def street() -> Predictor:
    return atrous.load("street", "cpu")


@pytest.fixture(autouse=True)
def small_comparisons(monkeypatch):
    """The 513 × 513 of a real export takes seconds."""
    monkeypatch.setattr(exporting, "COMPARED_AT", ((129, 113), (97, 131)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A labelled folder: soft spots, with masks of noise."""
    root = tmp_path_factory.mktemp("calibration")
    for kind in ("images", "masks"):
        (root / kind / "val").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index, (height, width) in enumerate([(120, 160), (97, 131), (130, 130)]):
        Image.fromarray(blotches(height, width)).save(root / "images" / "val" / f"{index}.png")
        mask = random.integers(0, 11, (height, width), dtype=np.uint8)
        Image.fromarray(mask).save(root / "masks" / "val" / f"{index}.png")
    card = atrous.load("street", "cpu").card
    (root / "classes.json").write_text(json.dumps({"classes": card.classes, "palette": card.palette}))
    return root


def onnx_session(path):
    pytest.importorskip("onnx")
    return pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["street", "deeplabv3_mobilenet_v2_050", "smp_deeplabv3plus_mobilenet_v2"])
def test_the_walk_in_one_module_is_the_predictors(street, name, size):
    predictor = street
    if name != "street":  # other strides, and corners that are not aligned
        torch.manual_seed(0)
        model = create_model(name, num_classes=3, output_stride=8)
        predictor = Predictor(model, ModelCard(tuple("abc"), ((0, 0, 0),) * 3), "cpu")
    photo = blotches(*size)
    expected = predictor(photo, scores=True)
    with torch.inference_mode():
        logits = Deployed(predictor.model, predictor.card, "logits")(torch.from_numpy(photo[None]))
    np.testing.assert_allclose(logits.softmax(1)[0].numpy(), expected.scores(), atol=1e-4)


def test_an_onnx_file_gives_the_predictors_labels_at_any_size(street, tmp_path):
    pytest.importorskip("onnxruntime")
    done = export_model(street, tmp_path / "street.onnx")
    assert (done.path, done.format, done.miou) == (tmp_path / "street.onnx", "onnx", None)
    assert done.deviation < 1e-4
    assert done.agreement > 0.999
    session = onnx_session(done.path)
    for size in SIZES:
        batch = np.stack([blotches(*size), blotches(*size)[::-1]])
        (labels,) = session.run(None, {"image": batch})
        assert labels.dtype == np.uint8
        expected = np.stack([street(photo).labels for photo in batch])
        assert (labels == expected).mean() > 0.999
    about = json.loads(session.get_modelmeta().custom_metadata_map["atrous"])
    assert tuple(about["classes"]) == street.classes
    assert about["mean"] == list(street.card.mean)
    assert "uint8" in about["input"]


@pytest.mark.parametrize("output", ["labels", "logits"])
@pytest.mark.parametrize("size", [None, (120, 160)])
def test_every_export_is_near_torch(street, tmp_path, output, size):
    pytest.importorskip("openvino")
    for format in ("onnx", "openvino"):
        done = export_model(street, tmp_path, format, output=output, size=size)
        assert done.deviation < 1e-4
        assert done.agreement > 0.999
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.xml", "model.bin"}
    (found,) = onnx_session(tmp_path / "model.onnx").get_outputs()
    height, width = size or ("height", "width")
    assert found.shape == (["batch", height, width] if output == "labels" else ["batch", 11, height, width])


def test_openvinos_file_says_what_it_is(street, tmp_path):
    openvino = pytest.importorskip("openvino")
    done = export_model(street, tmp_path / "a.model.xml", "openvino", size=(65, 65))
    model = openvino.Core().read_model(done.path)
    about = json.loads(model.get_rt_info(["atrous"]).astype(str))
    assert tuple(about["classes"]) == street.classes
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.model.bin", "a.model.xml"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, (60, 70)])
def test_torchs_program_needs_no_code_of_ours(street, tmp_path, size):
    done = export_model(street, tmp_path / "street.pt2", "torch", size=size)
    files = {"atrous.json": ""}
    program = torch.export.load(done.path, extra_files=files).module()
    assert tuple(json.loads(files["atrous.json"])["classes"]) == street.classes
    for each in [size] if size else [(33, 50), (129, 129), (64, 64), (1, 1)]:
        photo = blotches(*each)
        labels = program(torch.from_numpy(photo[None]))[0].numpy()
        assert (labels == street(photo).labels).mean() > 0.999


@pytest.mark.slow
def test_eight_bits_cost_little_and_it_is_said_how_much(street, tmp_path, photos):
    pytest.importorskip("onnxruntime")
    done = export_model(street, tmp_path / "int8.onnx", "onnx-int8", calibration=photos)
    assert 0.8 < done.agreement < 1
    assert done.miou is not None
    assert abs(done.miou[0] - done.miou[1]) < 0.02
    exact = export_model(street, tmp_path / "exact.onnx")
    assert done.path.stat().st_size < exact.path.stat().st_size / 3
    onnx = pytest.importorskip("onnx")
    written = onnx.load(done.path).graph
    assert "QuantizeLinear" in {node.op_type for node in written.node}
    # The biases were corrected for weights that are rounded as they are in the file.
    tensors = {each.name.partition("model.")[2]: onnx.numpy_helper.to_array(each) for each in written.initializer}
    for name, module in folded(street.model).named_modules():
        if isinstance(module, torch.nn.Conv2d):
            steps = module.weight.abs().amax((1, 2, 3)) / 127
            alive = steps > 1e-6  # of channels without weights to speak of it takes larger ones
            np.testing.assert_allclose(tensors[f"{name}.weight_scale"][alive], steps[alive], rtol=1e-5)
    assert "atrous" in onnx_session(done.path).get_modelmeta().custom_metadata_map
    plain = export_model(street, tmp_path / "plain.onnx", "onnx-int8", calibration=photos / "images" / "val")
    assert (plain.agreement, plain.miou) == (done.agreement, None)


@pytest.mark.slow
def test_litert_gives_the_same(street, tmp_path):
    pytest.importorskip("litert_torch")
    done = export_model(street, tmp_path / "street.tflite", "litert", size=(65, 97))
    assert done.deviation < 1e-4


def test_deviation_of_labels_is_what_torch_would_lose_by_them(street):
    deployed = Deployed(street.model, street.card, "labels")
    photo = blotches(60, 70)[None]
    with torch.inference_mode():
        logits = deployed.logits(torch.from_numpy(photo))
    same = logits.argmax(1).numpy()
    assert compare_on(deployed, lambda _: same, photo) == Comparison(0, 1)
    wrong = logits.argmin(1).numpy()
    found = compare_on(deployed, lambda _: wrong, photo)
    assert found.agreement == 0
    spread = (logits.max(1).values - logits.min(1).values).max() / logits.square().mean().sqrt()
    assert found.deviation == pytest.approx(float(spread), rel=1e-5)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_runtime_that_disagrees_leaves_nothing(street, tmp_path, monkeypatch, format):
    module = pytest.importorskip(f"atrous.export.{format}")
    opened = getattr(module, f"run_{format}")

    def wrong(path):
        run = opened(path)
        return lambda photos: (run(photos) + 1) % 11

    monkeypatch.setattr(module, f"run_{format}", wrong)
    (tmp_path / "model.bin").write_text("was here before")
    with pytest.raises(AtrousError, match="its runtime gives other labels than torch") as caught:
        export_model(street, tmp_path, format, size=(65, 65))
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["model.bin"]


def test_eight_bits_that_are_not_borne_leave_nothing(street, tmp_path, monkeypatch, photos):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(exporting, "LEAST_AGREEMENT", 1.1)
    with pytest.raises(AtrousError, match=r"8 bits keep only \d"):
        export_model(street, tmp_path / "m.onnx", "onnx-int8", calibration=photos, size=(65, 65))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("m.onnx", {"format": "tensorrt"}, f"format 'tensorrt' is unknown: give one of {', '.join(FORMATS)}"),
        ("m.onnx", {"output": "masks"}, "output 'masks' is neither labels nor logits"),
        ("m.onnx", {"size": (0, 5)}, "size (0, 5) is not (height, width) in pixels"),
        ("m.onnx", {"size": 513}, "size 513 is not (height, width) in pixels"),
        ("m.onnx", {"size": (513.0, 513)}, "size (513.0, 513) is not (height, width)"),
        ("m.onnx", {"format": "openvino"}, "ends in .xml; or give a folder"),
        ("m.onnx", {"format": "onnx-int8"}, "'onnx-int8' needs calibration photos"),
        ("m.onnx", {"calibration": "photos"}, "'onnx' takes no calibration photos"),
        ("m.tflite", {"format": "litert"}, "needs litert_torch"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(street, tmp_path, monkeypatch, path, options, message):
    found = importlib.util.find_spec
    hidden = ("litert_torch",)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name in hidden else found(name))
    with pytest.raises(AtrousError) as caught:
        export_model(street, tmp_path / path, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(street, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda _: None)
    with pytest.raises(AtrousError, match="needs onnx and onnxruntime: pip install 'atrous"):
        export_model(street, tmp_path / "m.onnx")


def test_a_folder_with_other_classes_cannot_calibrate(street, tmp_path, photos):
    pytest.importorskip("onnxruntime")
    values = json.loads((photos / "classes.json").read_text())
    other = tmp_path / "other"
    (other / "images" / "val").mkdir(parents=True)
    (other / "masks" / "val").mkdir(parents=True)
    for kind in ("images", "masks"):
        (other / kind / "val" / "0.png").write_bytes((photos / kind / "val" / "0.png").read_bytes())
    (other / "classes.json").write_text(json.dumps({**values, "classes": [f"{name}!" for name in values["classes"]]}))
    with pytest.raises(AtrousError, match="its classes are not the model's"):
        export_model(street, tmp_path / "m.onnx", "onnx-int8", calibration=other, size=(65, 65))
    assert not (tmp_path / "m.onnx").exists()
