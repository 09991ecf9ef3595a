"""Saved models: the same labels again, and one clear line for what is not a model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from atrous.errors import AtrousError, WeightsError
from atrous.inference import Predictor
from atrous.models import create_model
from atrous.weights import ModelCard, load_model, read_card, save_model

CARD = ModelCard(
    classes=("sky", "road", "tree"),
    palette=((0, 0, 255), (90, 90, 90), (0, 128, 0)),
    licence="Apache-2.0",
    provenance={"seed": 3, "scores": {"miou": 0.5}},
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("deeplabv3plus_mobilenet_v2_050", num_classes=3, aspp_rates=(3, 6)).eval()


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (70, 91, 3), dtype=np.uint8)


def test_loaded_models_predict_bit_equal_labels(model, photo, tmp_path):
    model.set_output_stride(8)
    save_model(model, CARD, tmp_path / "m")
    loaded, card = load_model(tmp_path / "m")
    assert card == CARD
    assert loaded.config == model.config
    expected = Predictor(model, CARD)(photo)
    assert np.array_equal(Predictor(loaded, card)(photo).labels, expected.labels)
    alone = tmp_path / "alone.safetensors"
    (tmp_path / "m" / "model.safetensors").rename(alone)
    from_file, card = load_model(alone)
    assert card == CARD
    assert np.array_equal(Predictor(from_file, card)(photo).labels, expected.labels)


def test_the_configuration_has_its_numbers_in_a_line_and_its_texts_as_they_are(model, tmp_path):
    told = {"lists": [[1, 2.5, -1e-7], [], ["[\n1,\n2\n]", "[1,  2]"], [True, None]], "ärger": "[\n3\n]"}
    card = replace(CARD, provenance=told, description='"[\n1\n]"')
    save_model(model, card, tmp_path / "m")
    assert load_model(tmp_path / "m")[1] == card
    text = (tmp_path / "m" / "config.json").read_text()
    assert "\n  [0, 0, 255],\n" in text
    assert "[1, 2.5, -1e-07]" in text


def test_half_precision_keeps_batch_norm_whole_and_is_stable(model, tmp_path):
    """Kernels are halved; a running variance may leave half precision's range, so it is not."""
    model.aspp.pointwise.bn.running_var.fill_(1e6)
    save_model(model, CARD, tmp_path / "half", dtype=torch.float16)
    loaded, card = load_model(tmp_path / "half")
    assert loaded.aspp.pointwise.bn.running_var[0] == 1e6
    torch.testing.assert_close(loaded.logits.weight, model.logits.weight, rtol=1e-3, atol=1e-6)
    save_model(loaded, card, tmp_path / "again", dtype=torch.float16)
    again, _ = load_model(tmp_path / "again")
    values = again.state_dict()
    assert all(torch.equal(value, values[key]) for key, value in loaded.state_dict().items())


def test_nothing_is_left_behind_when_writing_fails(model, tmp_path, monkeypatch):
    save_model(model, CARD, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def fail(*_args, **_options):
        raise OSError("disk full")

    monkeypatch.setattr("atrous.weights.saved.save_file", fail)
    with pytest.raises(AtrousError, match=r"model\.safetensors: cannot be written: disk full"):
        save_model(model, CARD, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_a_card_must_fit_its_model(model, tmp_path):
    with pytest.raises(WeightsError, match="3 classes, its card names 1"):
        save_model(model, ModelCard(("one",), ((0, 0, 0),)), tmp_path)
    with pytest.raises(WeightsError, match="2 classes has 1 palette"):
        ModelCard(("one", "two"), ((0, 0, 0),))
    with pytest.raises(WeightsError, match="names a class twice"):
        ModelCard(("one", "one"), ((0, 0, 0), (1, 1, 1)))


def cut_short(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def drop_tensor(folder):
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    del state["logits.bias"]
    save_file(state, folder / "model.safetensors")


def change_shape(folder):
    from safetensors.torch import load_file

    state = load_file(folder / "model.safetensors")
    state["logits.bias"] = torch.zeros(9)
    save_file(state, folder / "model.safetensors")


def edit_config(**changes):
    def edit(folder):
        path = folder / "config.json"
        values = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_short, "cut short"),
        (drop_tensor, "lacks logits.bias"),
        (change_shape, r"logits.bias has the shape \(9,\), not \(3,\)"),
        (edit_config(model={"name": "unheard_of"}), "unheard_of"),
        (edit_config(model={"name": "deeplabv3_resnet50", "wings": 2}), "no option 'wings'"),
        (edit_config(classes=None), "has no 'classes'"),
        (lambda folder: (folder / "config.json").write_text("{"), "not a model configuration"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors in this directory"),
    ],
)
def test_damage_is_named_with_the_file(model, tmp_path, damage, message):
    save_model(model, CARD, tmp_path / "m")
    damage(tmp_path / "m")
    with pytest.raises(WeightsError, match=message) as error:
        load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="neither a bundled model"):
        load_model(tmp_path / "nowhere")
    pickle = tmp_path / "model.pth"
    torch.save({"x": torch.zeros(1)}, pickle)
    with pytest.raises(WeightsError, match=r"not a \.safetensors file"):
        load_model(pickle)
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="carries no configuration"):
        load_model(tmp_path / "foreign.safetensors")


def test_the_card_is_read_without_the_weights(model, tmp_path):
    save_model(model, CARD, tmp_path / "m")
    config, card = read_card(tmp_path / "m")
    assert card == CARD
    assert config["name"] == "deeplabv3plus_mobilenet_v2_050"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"palette": [[300, 0, 0], [0, 0, 0], [1, 1, 1]]}, r"palette: \[300, 0, 0\] is no colour"),
        ({"palette": [[0.5, 0, 0], [0, 0, 0], [1, 1, 1]]}, r"palette: \[0\.5, 0, 0\] is no colour"),
        ({"palette": ["abc", [0, 0, 0], [1, 1, 1]]}, "palette: .* is no colour"),
        ({"mean": ["a", "b", "c"]}, "mean: .* is not three numbers"),
        ({"mean": [0, 0, float("nan")]}, "mean: .* is not three numbers"),
        ({"std": [0, 1, 1]}, "std: .* is not three numbers above 0"),
        ({"classes": "abc"}, "classes: 'abc' is no list of names"),
        ({"classes": ["a", None, "b"]}, "classes: .*None.* is no list of names"),
        ({"classes": ["a", "b", "b"]}, "names a class twice"),
        ({"classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]]}, "the model has 3 classes, its card names 2"),
    ],
)
def test_a_card_that_cannot_be_is_named_with_the_file(model, tmp_path, change, message):
    save_model(model, CARD, tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(WeightsError, match=rf"m/(config\.json|model\.safetensors): .*{message}") as error:
        load_model(tmp_path / "m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"[" * 100_000])
def test_a_configuration_that_is_none_is_named(model, tmp_path, text):
    save_model(model, CARD, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_bytes(text)
    with pytest.raises(WeightsError, match=r"config\.json: not a model configuration"):
        load_model(tmp_path / "m")


def test_a_full_disk_is_told_with_the_file(model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("atrous.weights.saved.save_file", full)
    with pytest.raises(AtrousError, match=r"m/model\.safetensors: cannot be written: .*No space left on device"):
        save_model(model, CARD, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


def test_a_card_is_the_same_however_its_numbers_are_given(model, tmp_path):
    assert ModelCard.from_dict(CARD.to_dict()) == CARD
    given = ModelCard(
        classes=list(CARD.classes),
        palette=np.array(CARD.palette, np.uint8),
        mean=torch.tensor(CARD.mean),
        std=[np.float32(value) for value in CARD.std],
        licence=CARD.licence,
        provenance=CARD.provenance,
    )
    assert given == CARD
    save_model(model, given, tmp_path / "m")
    assert load_model(tmp_path / "m")[1] == CARD
    config = tmp_path / "m" / "config.json"
    config.write_text(config.read_text().replace("[90, 90, 90]", "[90.0, 90.0, 90.0]"))
    assert load_model(tmp_path / "m")[1] == CARD
