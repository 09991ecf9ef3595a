"""The bundled model: what its card says, it does."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from atrous.evaluation import evaluate
from atrous.inference import load
from atrous.models import describe
from atrous.training import load_recipe
from atrous.weights import read_card, saved


@pytest.fixture(scope="module")
def street():
    return load("street", device="cpu")


def test_it_is_small_and_says_where_it_comes_from(street):
    file = Path(saved.__file__).parent / "bundled" / "street" / "model.safetensors"
    assert file.stat().st_size <= 10e6
    provenance = street.card.provenance
    assert set(provenance) >= {"trained_on", "recipe", "commit", "seed", "date", "scores", "settings"}
    assert provenance["scores"]["miou"] >= 0.72
    assert describe(street.model).name == read_card("street")[0]["name"]


def test_the_recipe_has_the_stages_that_it_was_trained_in(street):
    provenance = street.card.provenance
    stages = load_recipe(provenance["recipe"]).stage_recipes()
    trained = [*provenance["former_stages"], provenance["settings"]]
    for stage, settings in zip(stages, trained, strict=True):
        told = stage.model_dump(mode="json")
        for key in ("augment", "loss", "optimizer", "schedule", "batch_size", "ema_decay", "seed"):
            now, then = told[key], settings.get(key)
            # What a recipe could not say yet when the first stage was trained has its default there.
            assert then is None or now == then or {name: now[name] for name in then} == then, key
        assert told["model"]["options"] == settings["model"]["options"]


def test_a_photo_of_a_palace_looks_right(street):
    """scikit-learn's china.jpg: sky above, trees below and on both sides, a palace between them."""
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("scikit-learn's wheel, which carries the photo, is not installed")
    result = street(Path(next(iter(spec.submodule_search_locations))) / "datasets" / "images" / "china.jpg")
    areas = result.areas()
    assert set(list(areas)[:3]) == {"Sky", "Tree", "Building"}
    assert sum(list(areas.values())[:3]) > 0.9
    labels, index = result.labels, {name: i for i, name in enumerate(result.classes)}
    assert (labels[:30] == index["Sky"]).mean() > 0.8
    assert (labels[150:250, 130:280] == index["Building"]).mean() > 0.85  # the palace
    assert (labels[370:, 400:] == index["Tree"]).mean() > 0.85


@pytest.mark.slow
def test_the_card_has_the_scores_of_camvid_val(street, shared_data):
    """Rounded to four digits there; another processor may turn a few pixels."""
    scores = evaluate(street, shared_data / "data" / "camvid").to_dict()
    told = street.card.provenance["scores"]
    assert scores["miou"] == pytest.approx(told["miou"], abs=1e-3)
    assert scores["pixel_accuracy"] == pytest.approx(told["pixel_accuracy"], abs=1e-3)
    assert np.allclose([scores["iou"][k] for k in told["iou"]], list(told["iou"].values()), atol=5e-3)


@pytest.mark.slow
def test_tiles_agree_with_the_whole_photo(street, shared_data):
    """A network with image pooling sees less in a tile, so it is not bit-equal; it should hardly differ."""
    photo = sorted((shared_data / "data" / "camvid" / "images" / "val").glob("*.jpg"))[40]
    whole, tiled = street(photo, tile=0).labels, street(photo, tile=321).labels
    assert (whole == tiled).mean() > 0.95
