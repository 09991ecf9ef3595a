"""What `open_model` makes of a name, a directory or a file, and what a checkpoint does not tell."""

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from atrous.errors import AtrousError, WeightsError
from atrous.inference import load
from atrous.models import create_model
from atrous.weights import export_state, open_model, save_model, zoo
from http_server import running_server


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """torchvision's MobileNetV3 form as torchvision's references save it."""
    torch.manual_seed(0)
    model = create_model("torchvision_deeplabv3_mobilenet_v3_large", 21).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "model_29.pth"
    torch.save({"model": export_state(model, "torchvision"), "epoch": 29}, path)
    return path


def test_a_bundled_name_and_its_one_option():
    assert open_model("street").model.output_stride == 16
    finer = open_model("street", output_stride=8)
    assert finer.model.output_stride == 8
    assert finer.found.endswith("output stride 8")
    with pytest.raises(WeightsError, match="everything but output_stride: leave aspp_rates out"):
        open_model("street", aspp_rates=(1, 2, 3))


def test_a_checkpoint_takes_options_and_class_names(checkpoint):
    opened = open_model(checkpoint, output_stride=8, classes=[f"kind {index}" for index in range(21)])
    assert opened.found == "torchvision's deeplabv3_mobilenet_v3_large, 21 classes, output stride 8"
    assert opened.card.classes[3] == "kind 3"
    assert opened.card.description.startswith("torchvision's deeplabv3_mobilenet_v3_large")
    assert open_model(checkpoint).card.classes[15] == "person"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["a", "b"]}, "classes: 2 names for a model of 21 classes"),
        ({"classes": "cityscapes"}, "classes: 19 names for a model of 21 classes"),
        ({"classes": "nowhere"}, "no classes are known by the name 'nowhere'"),
        ({"output_stride": 12}, "output_stride=12 is not one of"),
        ({"colour": "red"}, "no option 'colour'"),
        ({"num_classes": 19}, r"classifier.4.weight has the shape \(21, 256, 1, 1\), not \(19, 256, 1, 1\)"),
    ],
)
def test_what_does_not_fit_the_file_is_one_line(checkpoint, options, message):
    with pytest.raises(AtrousError, match=message) as error:
        open_model(checkpoint, **options)
    assert "\n" not in str(error.value)


def damaged(checkpoint, tmp_path, change):
    state = torch.load(checkpoint, weights_only=True)["model"]
    change(state)
    save_file(state, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("classifier.0.project.1.bias"), "but it lacks classifier.0.project.1.bias"),
        (lambda state: state.update({"extra.weight": torch.zeros(1)}), "but it holds extra.weight, which this"),
        (lambda state: state.update({"classifier.1.weight": torch.zeros(2, 2)}), r"has the shape \(2, 2\), not"),
        (
            lambda state: [state.pop(name) for name in list(state) if "classifier" in name],
            "as no project known",
        ),
    ],
)
def test_every_tensor_is_accounted_for(checkpoint, tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        open_model(damaged(checkpoint, tmp_path, change))


def test_nothing_there_names_what_there_is(tmp_path):
    with pytest.raises(WeightsError, match=r"neither a directory nor a file.*street.*deeplabv3_mnv2_pascal_quant"):
        open_model(tmp_path / "none.pth")


def test_a_published_model_is_fetched_once_and_carries_its_origin(checkpoint, tmp_path, monkeypatch):
    """Through `load`, from a server of our own in the place of the project's."""
    entry = zoo.find_entry("deeplabv3_mobilenet_v3_large_coco")
    assert entry is not None
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path))
    with running_server() as server:
        url, _ = server.give("/model.pth", checkpoint.read_bytes())
        local = dataclasses.replace(entry, url=url, sha256="")
        monkeypatch.setattr("atrous.weights.open.find_entry", lambda name: local if name == "here" else None)
        seen = []
        predictor = load("here", "cpu", progress=lambda done, total: seen.append((done, total)))
        again = load("here", "cpu", progress=lambda *_: pytest.fail("fetched a second time"))
    size = checkpoint.stat().st_size
    assert seen[-1] == (size, size)
    assert predictor.card == again.card
    assert predictor.card.licence == "BSD-3-Clause"
    assert predictor.card.provenance["published"] == "60.3 mIoU, COCO val2017 with VOC's labels"


def test_the_cards_normalisation_goes_with_a_saved_conversion(checkpoint, tmp_path):
    opened = open_model(checkpoint)
    save_model(opened.model, opened.card, tmp_path / "m")
    again = open_model(tmp_path / "m")
    assert again.card.mean == (0.485, 0.456, 0.406)
    assert all(t.equal(again.model.state_dict()[name]) for name, t in opened.model.state_dict().items())


def test_a_model_that_is_there_already_is_not_opened():
    model = create_model("deeplabv3_mobilenet_v2_050", 2)
    with pytest.raises(WeightsError, match=r"DeepLabV3: a model is opened by its name, .*Predictor\(model, card\)"):
        open_model(model)
