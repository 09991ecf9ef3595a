"""`atrous convert`: a checkpoint to a model of ours and back, and every mistake in one line."""

import pytest
import torch
from safetensors.torch import load_file

from atrous.models import create_model
from atrous.weights import export_state, load_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    model = create_model("torchvision_deeplabv3_mobilenet_v3_large", 4).eval()
    path = tmp_path_factory.mktemp("checkpoint") / "model_29.pth"
    torch.save(export_state(model, "torchvision"), path)
    return path


def test_a_checkpoint_becomes_a_model_that_predicts(atrous, checkpoint, photos, tmp_path):
    (tmp_path / "names.txt").write_text("road\nsky\n\ntree\ncar\n")
    options = ["--classes", tmp_path / "names.txt", "--set", "output_stride=8", "--half"]
    done = atrous("convert", checkpoint, tmp_path / "out", *options)
    assert done.exit_code == 0
    assert done.stdout.startswith("torchvision's deeplabv3_mobilenet_v3_large, 4 classes, output stride 8\nwrote ")
    model, card = load_model(tmp_path / "out")
    assert model.output_stride == 8
    assert card.classes == ("road", "sky", "tree", "car")
    predicted = atrous("predict", photos, "--model", tmp_path / "out", "--json")
    assert predicted.exit_code == 0
    assert len(predicted.stdout.splitlines()) == 3


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_and_back(atrous, checkpoint, tmp_path, suffix):
    atrous("convert", checkpoint, tmp_path / "ours")
    out = tmp_path / f"theirs{suffix}"
    assert atrous("convert", tmp_path / "ours", out, "--to", "torchvision").exit_code == 0
    back = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    expected = torch.load(checkpoint, weights_only=True)
    assert back.keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in back.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FILE", "OUT", "--to", "torchvision"], "with --to give a file that ends in .pth"),
        (["FILE", "OUT.pth", "--to", "caffe"], "no project 'caffe' is known here; there are torchvision"),
        (["street", "OUT.pth", "--to", "torchvision"], "torchvision has no network like deeplabv3plus_eff"),
        (["FILE", "FILE"], "a file; give a directory"),
        (["FILE", "OUT", "--set", "colour"], "it takes the form key=value"),
        (["FILE", "OUT", "--set", "aspp_rates=["], "is not a value in YAML"),
        (["FILE", "OUT", "--classes", "a,b"], "2 names for a model of 4 classes"),
        (["OUT", "OUT"], "neither a directory nor a file"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(atrous, checkpoint, tmp_path, arguments, message):
    named = {"FILE": checkpoint, "OUT": tmp_path / "out", "OUT.pth": tmp_path / "out.pth"}
    done = atrous("convert", *(named.get(argument, argument) for argument in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
