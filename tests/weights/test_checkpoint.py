"""Reading checkpoint files: what projects wrap around their weights, and what must not be run or believed."""

import os
import zipfile
from collections import OrderedDict
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from atrous.errors import WeightsError
from atrous.weights.checkpoint import read_checkpoint_file

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.tensor([7.0])}


def prefixed(prefix):
    return {f"{prefix}{name}": tensor for name, tensor in TENSORS.items()}


WRAPPINGS = {
    "bare": TENSORS,
    "ordered": OrderedDict(TENSORS),
    # np.float64 and np.float32: both projects keep np.nanmean's result.
    "VainF": {"cur_itrs": 9, "model_state": prefixed("module."), "best_score": np.float64(0.7), "scores": np.arange(3)},
    "jfzhang95": {"epoch": 3, "state_dict": TENSORS, "best_pred": np.float32(0.7), "optimizer": {"state": {}}},
    "references": {"model": TENSORS, "epoch": 3, "optimizer": {"param_groups": [{"lr": 0.1}]}},
    "Lightning": {"state_dict": prefixed("model."), "hyper_parameters": {"lr": 1}, "pytorch-lightning_version": "2.4"},
    "compiled, distributed": {"state_dict": prefixed("module._orig_mod.")},
    "a score beside them": {"model": TENSORS, "best_miou": torch.tensor(0.7), "epoch": 3},
    "a step first": {"state_dict": {"step": torch.tensor(3)}, "model": TENSORS},
    "a loss within": {"model": {**TENSORS, "weights": {"loss": torch.tensor(0.5)}}},
    "an empty one first": {"model_state": {}, "state_dict": {"model": TENSORS}},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappers_and_prefixes_fall_away(wrapping, legacy, tmp_path):
    torch.save(WRAPPINGS[wrapping], tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    state = read_checkpoint_file(tmp_path / "x.pth").state
    assert state.keys() == TENSORS.keys()
    assert all(tensor.equal(TENSORS[name]) for name, tensor in state.items())


def test_a_prefix_that_some_names_lack_stays(tmp_path):
    save_file({"model.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert set(read_checkpoint_file(tmp_path / "x.safetensors").state) == {"model.a", "b"}


@pytest.mark.parametrize("inner", [False, True])
def test_mmsegmentations_meta_names_the_classes(inner, tmp_path):
    meta = {"classes": ["road", "sky"], "palette": [[128, 64, 128], [70, 130, 180]]}
    meta = {"dataset_meta": meta} if inner else {key.upper(): value for key, value in meta.items()}
    torch.save({"state_dict": TENSORS, "meta": meta}, tmp_path / "x.pth")
    assert read_checkpoint_file(tmp_path / "x.pth").hints == {
        "classes": ("road", "sky"),
        "palette": ((128, 64, 128), (70, 130, 180)),
    }


class Malicious:
    """Unpickled by an ordinary reader, this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pickle_is_named_and_not_run(legacy, tmp_path):
    content = {"state_dict": TENSORS, "meta": Malicious(tmp_path / "made")}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"holds posix\.mkdir, and reading that could run code") as error:
        read_checkpoint_file(tmp_path / "x.pth")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def saved(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def written(tmp_path, content, name="x.pth"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def zipped(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(member, "x")
    return tmp_path / "x.zip"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: saved(folder, nn.Linear(1, 1)), "holds torch.nn.modules.linear.Linear, and"),
        (lambda folder: saved(folder, [1, 2]), "holds no weights"),
        (lambda folder: saved(folder, {"epoch": 3}), "holds no weights"),
        (lambda folder: zipped(folder, "x/constants.pkl"), "a TorchScript archive, which holds code"),
        (lambda folder: zipped(folder, "../evil.pth"), "a zip archive, not a checkpoint"),
        (lambda folder: written(folder, b""), "not a checkpoint that can be read, or cut short"),
        (lambda folder: written(folder, b"<!DOCTYPE html><p>Sign in"), "a web page, not a checkpoint"),
        (lambda folder: written(folder, b"\x00" * 99, "x.safetensors"), "not a safetensors file, or cut short"),
        (lambda folder: folder / "none.pth", "cannot be read"),
        (lambda folder: folder, "holds no model.safetensors or pytorch_model.bin"),
        (lambda folder: written(folder, b"{", "config.json").parent, "holds no model"),
    ],
)
def test_what_is_no_checkpoint_is_one_line(make, message, tmp_path):
    with pytest.raises(WeightsError, match=message) as error:
        read_checkpoint_file(make(tmp_path))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "x.pth"
    torch.save({"state_dict": TENSORS, "best": np.float64(1)}, path)
    return path.read_bytes()


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_damage_is_one_line_or_harmless(whole, tmp_path_factory, data):
    """Cut short, or with a byte changed: the same names again, or a WeightsError. Never another exception."""
    content = bytearray(whole)
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        content[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.pth"
    path.write_bytes(content)
    with suppress(WeightsError):
        assert all(isinstance(tensor, torch.Tensor) for tensor in read_checkpoint_file(path).state.values())


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"x\.pth: holds no weights"):
        read_checkpoint_file(tmp_path / "x.pth")
