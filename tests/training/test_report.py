"""The page and the plots of a run: what they show is what was measured."""

import re

import numpy as np
import pytest
import torch

from atrous.data import open_dataset
from atrous.data.balance import count_pixels
from atrous.evaluation import evaluate
from atrous.inference import Predictor
from atrous.models import create_model
from atrous.training import Recipe, pictures
from atrous.training.provenance import origin
from atrous.training.report import write_final_report, write_interim_report
from atrous.weights import ModelCard
from data_sets import sky_over_ground

RECIPE = {
    "model": {"name": "deeplabv3_mobilenet_v2_050"},
    "loss": {"class_weights": [1, 2.5]},
    "schedule": {"epochs": 7},
    "description": "<toy>",
}
HISTORY = [
    {"epoch": 1, "loss": 1.5, "learning_rate": 0.3, "images_per_second": 2.0, "seconds": 100.0},
    {
        "epoch": 2,
        "loss": 0.75,
        "learning_rate": 0.2,
        "images_per_second": 3.0,
        "seconds": 200.0,
        "miou": 0.61,
        "pixel_accuracy": 0.8,
    },
    {
        "epoch": 3,
        "loss": 0.5,
        "learning_rate": 0.1,
        "images_per_second": 7.0,
        "seconds": 3900.0,
        "miou": 0.59,
        "pixel_accuracy": 0.82,
        "note": "stopped early",
    },
]
PHOTOS = 11


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sky_over_ground(tmp_path_factory.mktemp("data"), {"train": 3, "val": PHOTOS})


@pytest.fixture(scope="module")
def judged(data):
    """An untrained model, whose labels are partly right, and its scores."""
    torch.manual_seed(0)
    folder = open_dataset(data, "val")
    model = create_model("deeplabv3_mobilenet_v2_050", num_classes=2)
    torch.nn.init.normal_(model.logits.weight, std=5.0)
    predictor = Predictor(model, ModelCard(folder.classes.names, folder.classes.palette), "cpu")
    return predictor, evaluate(predictor, folder)


@pytest.fixture(scope="module")
def provenance(data):
    return {"recipe": "toy.yaml", **origin(Recipe.model_validate(RECIPE), data, 3)}


def table(page):
    """Every row of two cells, as text."""
    return dict(re.findall(r"<tr><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td></tr>", page))


@pytest.fixture(scope="module")
def page(data, judged, provenance, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "seventh"
    training = open_dataset(data, "train")
    folder = open_dataset(data, "val")
    write_final_report(out, provenance, HISTORY, judged[1], judged[0], folder, training=training, scale=1.0)
    return (out / "report.html").read_text()


def test_the_page_says_how_it_went(page, judged, provenance):
    rows = table(page)
    assert "<h1>seventh, trained by toy</h1>" in page
    assert rows["mean IoU"] == f"{judged[1].miou:.2%}"
    assert (rows["epochs"], rows["kept epoch"], rows["time"]) == ("3 of 7", "2", "1 h 05 min")
    assert (rows["images a second"], rows["end"]) == ("3.0", "stopped early")
    assert rows["trained on"].endswith("train (3 photos)")
    assert f"torch {torch.__version__}" in rows["versions"]
    assert rows["commit"] == provenance["commit"]


def test_the_page_holds_the_recipe_key_by_key(page):
    rows = table(page)
    assert rows["model.name"] == "deeplabv3_mobilenet_v2_050"
    assert rows["loss.class_weights"] == "[1.0, 2.5]"
    assert rows["loss.parts.cross_entropy"] == "1.0"
    assert rows["schedule.epochs"] == "7"
    assert rows["description"] == "&lt;toy&gt;"


def test_the_page_shows_the_worst_photos_and_the_best_ones(page, judged):
    shown = re.findall(r"<figcaption>(\d+\.png): mean IoU ([\d.]+)%</figcaption>", page)
    in_order = sorted(judged[1].photos, key=lambda photo: photo.miou)
    expected = [*in_order[:4], *in_order[::-1][:4]]
    assert [float(miou) for _, miou in shown] == [round(100 * photo.miou, 1) for photo in expected]
    assert {name for name, _ in shown[:4]}.isdisjoint(name for name, _ in shown[4:])
    assert page.count("<figcaption>truth</figcaption>") == page.count("<figcaption>prediction</figcaption>") == 8


def test_the_page_fetches_nothing(page):
    sources = re.findall(r'(?:src|href)="([^"]{5})', page)
    assert len(sources) > 20
    assert set(sources) == {"data:"}


def test_a_page_of_few_photos_shows_none_twice(data, judged, provenance, tmp_path):
    evaluation = judged[1]
    few = type(evaluation)(evaluation.confusion, evaluation.photos[:5])
    folder = open_dataset(data, "val")
    write_final_report(tmp_path, provenance, [], few, judged[0], folder, training=None, scale=1.0)
    page = (tmp_path / "report.html").read_text()
    names = re.findall(r"<figcaption>(\d+\.png): mean", page)
    assert sorted(names) == sorted({photo.path.name for photo in few.photos})
    assert "share in training" not in page


def test_the_page_of_a_run_that_goes_on_has_the_best_so_far(judged, provenance, tmp_path):
    scores = judged[1].scores
    for more in (True, False):
        write_interim_report(tmp_path, provenance, HISTORY[:2], scores, more)
        page = (tmp_path / "report.html").read_text()
        assert ("The run goes on" in page) == more
        rows = table(page)
        assert rows["mean IoU"] == f"{scores.miou:.2%}"
        assert rows["epochs"] == "2 of 7"
        assert rows["ground"] == f"{scores.iou['ground']:.2%}"


def test_the_curves_are_the_history(provenance):
    loss, scores, rate = pictures.curves(HISTORY).axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 1.5], [2, 0.75], [3, 0.5]]
    assert scores.lines[0].get_xydata().tolist() == [[2, 61], [3, 59]]
    assert scores.lines[2].get_xydata().tolist() == [[2, 61]]  # the ring around the best
    assert rate.lines[0].get_xydata().tolist() == [[1, 0.3], [2, 0.2], [3, 0.1]]
    assert len(pictures.curves(HISTORY[:1]).axes) == 2  # no validation yet


def test_the_bars_are_the_classes_in_their_order_beside_their_share_of_the_training_pixels(data, judged):
    counts = count_pixels(open_dataset(data, "train")).sum(0)
    palette = [(0, 0, 9), (255, 0, 0)]
    left, right = pictures.classes(judged[1], palette, counts / counts.sum()).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["sky", "ground"]
    assert left.yaxis_inverted()
    assert [bar.get_width() for bar in left.patches] == pytest.approx([100 * iou for iou in judged[1].iou.values()])
    assert left.patches[1].get_facecolor() == (1, 0, 0, 1)
    assert [bar.get_width() for bar in right.patches] == pytest.approx(100 * counts / counts.sum())
    assert sum(bar.get_width() for bar in right.patches) == pytest.approx(100)
    assert all(bar.get_width() > right.get_xlim()[0] for bar in right.patches)


def test_a_class_that_is_nowhere_is_said_to_be_absent(judged):
    matrix = type(judged[1].confusion)(("a", "b", "c"))
    matrix.counts[0, 0] = 5
    evaluation = type(judged[1])(matrix)
    left, _ = pictures.classes(evaluation, [(0, 0, 0)] * 3, np.array([1.0, 0, 0])).axes
    assert [text.get_text() for text in left.texts] == ["100.0", "absent", "absent"]
