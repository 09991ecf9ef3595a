"""`atrous models`: what is there, in words and in JSON."""

import json

import pytest

from atrous.models import create_model, list_models
from atrous.weights import ModelCard, list_zoo

CONFIG = {"name": "deeplabv3_mobilenet_v2_050", "num_classes": 2, "output_stride": 16}
CARD = ModelCard(
    ("road", "sky"),
    ((1, 2, 3), (4, 5, 6)),
    licence="CC-BY-4.0",
    description="for tests",
    provenance={
        "trained_on": "a street",
        "scores": {"split": "val", "miou": 0.625, "pixel_accuracy": 0.9, "iou": {"road": 0.7, "sky": 0.55}},
    },
)


@pytest.fixture
def one_bundled(monkeypatch) -> None:
    monkeypatch.setattr("atrous.weights.list_bundled", lambda: ["toy"])
    monkeypatch.setattr("atrous.weights.read_card", lambda name: (CONFIG, CARD))


@pytest.mark.usefixtures("one_bundled")
def test_the_table_tells_what_a_person_chooses_by(atrous) -> None:
    result = atrous("models")
    assert result.exit_code == 0
    for told in (
        "toy",
        CONFIG["name"],
        "2: road, sky",
        "a street",
        "miou 0.625",
        "pixel_accuracy 0.9 on val",
        "CC-BY-4.0",
    ):
        assert told in result.stdout
    parameters = sum(p.numel() for p in create_model(**CONFIG).parameters())
    assert f"{parameters / 1e6:.1f} M" in result.stdout


@pytest.mark.usefixtures("one_bundled")
def test_json_tells_all(atrous) -> None:
    result = atrous("models", "--json")
    model, *published = map(json.loads, result.stdout.splitlines())
    assert model["name"] == "toy"
    assert model["architecture"] == CONFIG["name"]
    assert model["parameters"] == sum(p.numel() for p in create_model(**CONFIG).parameters())
    assert model["classes"] == ["road", "sky"]
    assert model["provenance"]["scores"]["iou"] == {"road": 0.7, "sky": 0.55}
    assert [entry["name"] for entry in published] == [entry.name for entry in list_zoo()]


def test_published_models_and_whether_they_are_here(atrous, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("ATROUS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "deeplabv3_mnv2_dm05_pascal_quant.tflite").touch()
    lines = atrous("models").stdout.splitlines()
    [general] = [line for line in lines if line.startswith("deeplabv3_mnv2_pascal_quant (voc)")]
    [smaller] = [line for line in lines if line.startswith("deeplabv3_mnv2_dm05_pascal_quant")]
    assert "74.26 mIoU" in general
    assert not general.rstrip().endswith("yes")
    assert smaller.rstrip().endswith("yes")


def test_with_no_bundled_model_it_says_so(atrous, monkeypatch) -> None:
    monkeypatch.setattr("atrous.weights.list_bundled", list)
    result = atrous("models")
    assert result.exit_code == 0
    assert "No model comes with this installation" in result.stdout
    assert len(atrous("models", "--json").stdout.splitlines()) == len(list_zoo())


def test_architectures_say_what_they_cost(atrous, monkeypatch) -> None:
    some = ["deeplabv1_vgg16_largefov", "deeplabv3_mobilenet_v2", "smp_deeplabv3plus_mobilenet_v2"]
    assert set(some) < set(list_models())
    monkeypatch.setattr("atrous.models.list_models", lambda: some)
    table = atrous("models", "--architectures", "--size", 65).stdout
    line = next(line for line in table.splitlines() if line.startswith("deeplabv3_mobilenet_v2 "))
    assert "2,113,557" in line
    assert "arXiv 1706.05587" in line
    described = [json.loads(line) for line in atrous("models", "--architectures", "--json").stdout.splitlines()]
    by_name = {model["name"]: model for model in described}
    assert list(by_name) == some
    assert by_name["deeplabv3_mobilenet_v2"]["multiply_adds"] == pytest.approx(2.74e9, rel=5e-3)
    assert all(model["parameters"] and model["paper"] and model["verified"] for model in described)
