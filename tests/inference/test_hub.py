"""Predictors through huggingface_hub's mixin. The Hub itself is stood for by a directory and by a recorder."""

import json
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

from atrous.errors import AtrousError, WeightsError
from atrous.inference import Predictor, load
from atrous.models import create_model
from atrous.weights import ModelCard

CARD = ModelCard(("sky", "road"), ((0, 0, 255), (90, 90, 90)), licence="Apache-2.0", provenance={"seed": 3})
PHOTO = np.random.default_rng(0).integers(0, 256, (70, 91, 3), dtype=np.uint8)


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    return Predictor(create_model("deeplabv3_mobilenet_v2_050", 2), CARD, device="cpu")


def test_there_and_back(predictor, tmp_path):
    predictor.save_pretrained(tmp_path / "m")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    for again in (Predictor.from_pretrained(tmp_path / "m", device="cpu"), load(tmp_path / "m", "cpu")):
        assert again.card == CARD
        assert np.array_equal(again(PHOTO).labels, predictor(PHOTO).labels)
    head, _, body = (tmp_path / "m" / "README.md").read_text().removeprefix("---\n").partition("---\n")
    assert 'pipeline_tag: "image-segmentation"' in head
    assert "Classes: sky, road." in body


def test_pushing_uploads_what_loads(predictor, monkeypatch, tmp_path):
    uploaded = {}

    def upload_folder(self, *, repo_id, folder_path, **_):
        for path in Path(folder_path).iterdir():
            uploaded[path.name] = path.read_bytes()
        return f"hub/{repo_id}"

    class Repository:
        repo_id = "someone/roads"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: Repository)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    assert predictor.push_to_hub("someone/roads") == "hub/someone/roads"
    assert json.loads(uploaded["config.json"])["classes"] == ["sky", "road"]
    for name, content in uploaded.items():
        (tmp_path / name).write_bytes(content)
    assert np.array_equal(load(tmp_path, "cpu")(PHOTO).labels, predictor(PHOTO).labels)


def test_nothing_there_is_one_line(tmp_path):
    with pytest.raises(WeightsError, match="neither a directory nor a model on the Hub") as error:
        Predictor.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_an_option_is_taken_or_refused(predictor, tmp_path):
    predictor.save_pretrained(tmp_path / "m")
    assert Predictor.from_pretrained(tmp_path / "m", device="cpu", engine="torch-bf16").engine == "torch-bf16"
    with pytest.raises(AtrousError, match="from_pretrained has no option 'devcie'; it takes cache_dir, device, engine"):
        Predictor.from_pretrained(tmp_path / "m", devcie="cpu")
