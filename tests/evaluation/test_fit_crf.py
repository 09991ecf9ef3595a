"""The search for the CRF's parameters."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.crf import CRFParams, parse_crf
from atrous.data import open_dataset
from atrous.errors import AtrousError, DataError
from atrous.evaluation import evaluate, fit_crf
from atrous.inference import Predictor
from atrous.weights import ModelCard


def test_the_search_comes_close_to_the_best():
    tried = []

    def score(params):
        tried.append(params)
        away = (params.bilateral_weight - 4.4, (params.bilateral_sxy - 80) / 10, params.bilateral_srgb - 4)
        return -sum(abs(each) for each in away)

    start = CRFParams(1, 2, 30, 400, 90)
    best = fit_crf.search(score, start)
    assert abs(best.bilateral_weight - 4.4) < 0.9
    assert abs(best.bilateral_sxy - 80) < 9
    assert abs(best.bilateral_srgb - 4) < 0.9
    assert {(params.gaussian_weight, params.gaussian_sxy) for params in tried} == {(1, 2)}
    assert len(tried) <= fit_crf.TRIALS
    assert score(best) == max(map(score, tuple(tried)))


class Smeared(torch.nn.Module):
    """Knows the class by the photo's red, but sees every 8th pixel only."""

    num_classes, output_stride, align_corners, extra_pixels = 2, 8, True, 1

    def coarse_logits(self, x):
        red = 3 * x[:, :1, ::8, ::8]
        return torch.cat([red, -red], dim=1)


CARD = ModelCard(("light", "dark"), ((255, 255, 255), (0, 0, 0)), (0.5,) * 3, (0.5,) * 3)


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / kind / "val").mkdir(parents=True)
    (tmp_path / "classes.json").write_text(json.dumps({"classes": CARD.classes, "palette": CARD.palette}))
    for index in range(3):
        dark = np.kron(random.integers(0, 2, (4, 5)), np.ones((11, 11), int)).astype(np.uint8)
        image = np.where(dark[..., None], 60, 180) + random.integers(-4, 5, (*dark.shape, 3))
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / f"images/val/{index}.png")
        Image.fromarray(dark).save(tmp_path / f"masks/val/{index}.png")
    return tmp_path


@pytest.fixture
def few_trials(monkeypatch):
    monkeypatch.setattr(fit_crf, "_STAGES", 1)
    monkeypatch.setattr(fit_crf, "TRIALS", 2 + 27)


def test_what_is_found_scores_what_it_says(folder, few_trials, tmp_path):
    predictor = Predictor(Smeared(), CARD, device="cpu")
    shares = []
    found = fit_crf.fit_crf(predictor, open_dataset(folder, "val"), progress=shares.append)
    assert sum(shares) == pytest.approx(1)
    file = tmp_path / "new" / "crf.yaml"
    found.save(file, "a comment\nof two lines")
    assert parse_crf(str(file)) == found.params
    assert file.read_text().startswith("# a comment\n# of two lines\n# mean IoU ")
    alone, with_crf = (evaluate(predictor, folder, crf=crf).confusion.scores().miou for crf in (False, str(file)))
    assert found.without == pytest.approx(alone)
    assert found.miou == pytest.approx(with_crf, abs=1e-3)
    assert found.miou > found.without + 0.02
    assert found.miou == max(found.tried.values())


def test_what_does_not_fit_is_refused(folder):
    other = ModelCard(("a", "b"), CARD.palette)
    with pytest.raises(DataError, match="not the model's"):
        fit_crf.fit_crf(Predictor(Smeared(), other, device="cpu"), open_dataset(folder, "val"))
    with pytest.raises(AtrousError, match="photos=0"):
        fit_crf.fit_crf(Predictor(Smeared(), CARD, device="cpu"), open_dataset(folder, "val"), photos=0)
