"""`atrous calibrate`: a saved model that `--engine openvino-int8` runs, and what it says of it."""

import pytest
import torch

from atrous.cli import calibrate as command
from atrous.errors import AtrousError
from atrous.export import calibrating
from atrous.inference.engines.names import _obstacle
from atrous.weights import load_model, save_model
from networks import randomise


def test_what_it_writes_runs_in_8_bits(atrous, model_folder, photos, tmp_path):
    before, card = load_model(model_folder)
    # Numbers of a trained network's size; those of the folder's become so small that OpenVINO takes them for nothing.
    save_model(randomise(before).float(), card, tmp_path / "lively")
    done = atrous("calibrate", tmp_path / "lively", "--photos", photos, "--out", tmp_path / "small8")
    assert done.exit_code == 0, done.output
    assert "by 2 photos; of 1 held out" in done.stdout
    model, card = load_model(tmp_path / "small8")
    assert card.quantisation is not None
    assert all(torch.equal(tensor, before.state_dict()[name]) for name, tensor in model.state_dict().items())
    if not _obstacle("openvino-int8", torch.device("cpu")):
        given = ("predict", photos, "--model", tmp_path / "small8", "--engine", "openvino-int8", "--json")
        assert atrous(*given).exit_code == 0


def test_what_is_lost_is_warned_of(atrous, model_folder, photos, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AtrousError("not here")

    monkeypatch.setattr(calibrating, "check_engine", refuse)  # judged in floats, which starts sooner
    monkeypatch.setattr(command, "_GOOD", 1.1)
    done = atrous("calibrate", model_folder, "--photos", photos, "--out", tmp_path / "small8")
    assert done.exit_code == 0
    assert "look at its masks before you use them" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("photos_given", "out", "message"),
    [
        ("none", "out", "no such folder"),
        ("empty", "out", "empty"),
        ("photos", "photos/a.png", "is a file; give a directory"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(atrous, model_folder, photos, tmp_path, photos_given, out, message):
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    done = atrous("calibrate", model_folder, "--photos", tmp_path / photos_given, "--out", tmp_path / out)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
