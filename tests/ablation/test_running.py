"""Runs: what was interrupted goes on, what is done is not done again, and what differs is not mixed."""

import json
import shutil

import pytest
import torch
from filelock import FileLock

from atrous.ablation import estimate, find_experiment, make_plan, pending, read_results, run_plan
from atrous.errors import AtrousError
from atrous.evaluation import evaluate
from atrous.inference import Predictor
from atrous.models import create_model, describe
from atrous.training import CHECKPOINT, Trainee
from atrous.weights import load_model

MULTIGRID = find_experiment("v3-multigrid")
INFERENCE = find_experiment("inference")
# ASPP needs a crop on whose map its rates reach something.
JUDGED = {"val_scale": 0.5, "schedule.epochs": 8, "augment.crop": [97, 97]}


class KilledError(Exception):
    pass


def run(plan, data, out):
    done = []
    run_plan(plan, data, out, workers=0, device="cpu", finished=lambda result: done.append((result.row, result.seed)))
    return done


def kill_at(monkeypatch, step):
    """Every training in this process together ends with an error at its step number so many."""
    plain, seen = Trainee.training_step, 0

    def training_step(self, batch, index):
        nonlocal seen
        seen += 1
        if seen == step:
            raise KilledError
        return plain(self, batch, index)

    monkeypatch.setattr(Trainee, "training_step", training_step)


@pytest.fixture
def two_rows(recipe):
    """Two trainings from each of two seeds, of four steps each."""
    return make_plan(MULTIGRID, recipe, seeds=2, only=["block4-1-1-1", "block4-1-2-4"])


def weights(folder):
    """A model's weights as one value that can be compared."""
    return b"".join(tensor.numpy().tobytes() for tensor in load_model(folder)[0].state_dict().values())


def mious(out):
    return {(result.row, result.seed): result.miou for result in read_results(out, MULTIGRID)}


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(two_rows, data, tmp_path, monkeypatch):
    """Killed in the second epoch of the third of four trainings: the first two stand, and the scores are the same."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    everything = [("(1, 1, 1)", 5), ("(1, 2, 4)", 5), ("(1, 1, 1)", 6), ("(1, 2, 4)", 6)]
    assert run(two_rows, data, whole) == everything
    kill_at(monkeypatch, 4 + 4 + 3)
    with pytest.raises(KilledError):
        run(two_rows, data, broken)
    monkeypatch.undo()
    assert [(r.row.name, r.seed) for r in pending(two_rows, data, broken)] == everything[2:]
    assert len(list((broken / "models").glob(f"*/{CHECKPOINT}"))) == 1
    standing = {path: path.read_bytes() for path in broken.rglob("*seed5.json")}
    assert run(two_rows, data, broken) == everything[2:]
    assert all(path.read_bytes() == text for path, text in standing.items())
    assert mious(broken) == mious(whole)
    states = [{path.parent.name: weights(path.parent) for path in out.rglob("trained.json")} for out in (whole, broken)]
    assert len(states[0]) == 4
    assert states[0] == states[1]
    assert len(set(states[0].values())) == 4
    assert not list(broken.rglob(CHECKPOINT))
    assert run(two_rows, data, broken) == []


@pytest.fixture(scope="module")
def judged(data, recipe, tmp_path_factory):
    """One training, judged in the six ways of `inference`."""
    out = tmp_path_factory.mktemp("judged")
    plan = make_plan(INFERENCE, recipe, seeds=1, changes=JUDGED)
    cost = estimate(plan, data, out, device="cpu")
    run(plan, data, out)
    return plan, out, cost


@pytest.mark.slow
def test_one_training_is_judged_in_each_rows_way(judged, data):
    _, out, _ = judged
    (folder,) = (out / "models").iterdir()
    found = {result.row: result for result in read_results(out, INFERENCE)}
    for output_stride in (16, 8):
        model, card = load_model(folder)
        model.set_output_stride(output_stride)
        ways = {"": ([0.5], False), " + scales + flip": ([0.25, 0.375, 0.5, 0.625, 0.75, 0.875], True)}
        for added, (scales, flip) in ways.items():
            expected = evaluate(Predictor(model, card, "cpu"), data, scales=scales, flip=flip).scores
            result = found[f"output stride {output_stride}{added}"]
            assert (result.miou, result.pixel_accuracy) == (expected.miou, expected.pixel_accuracy)
    assert len({result.miou for result in found.values()}) > 1


@pytest.mark.slow
def test_the_crf_is_a_way_of_judging_too(judged, data, recipe):
    _, out, _ = judged
    experiment = find_experiment("crf")
    assert run(make_plan(experiment, recipe, seeds=1, changes=JUDGED), data, out) == [("as it is", 5), ("with CRF", 5)]
    (folder,) = (out / "models").iterdir()  # no other model was trained
    expected = evaluate(Predictor(*load_model(folder), "cpu"), data, scales=[0.5], crf="voc").scores
    plain, refined = read_results(out, experiment)
    assert refined.miou == expected.miou
    assert refined.iou == expected.iou
    assert refined.miou != plain.miou


@pytest.mark.slow
def test_an_estimate_counts_what_is_still_to_be_done(judged, data, recipe, tmp_path):
    plan, out, cost = judged
    (training,) = cost.trainings
    assert training.count == 1
    # Forward and twice that backward, 8 epochs of 2 steps of 2 crops.
    with torch.device("meta"):
        passes = 3 * describe(create_model("deeplabv3plus_mobilenet_v2_050", 21), (97, 97)).multiply_adds
    assert training.multiply_adds == passes * 8 * 2 * 2
    # Training judges twice; of the rows, one is as training does it.
    assert [item.count for item in cost.judgings] == [2, 1, 1, 1, 1, 1]
    plain, scales, flipped = (item.multiply_adds for item in cost.judgings[:3])
    assert flipped == 2 * scales
    assert scales / plain == pytest.approx(0.25 + 0.5625 + 1 + 1.5625 + 2.25 + 3.0625)
    assert cost.seconds == pytest.approx(training.seconds + sum(item.count * item.seconds for item in cost.judgings))
    again = estimate(plan, data, out, device="cpu")
    assert (again.trainings, again.judgings, again.seconds) == ((), (), 0)
    # Another experiment that trains the same model finds it.
    decoder = make_plan(find_experiment("v3plus-decoder"), recipe, seeds=1, changes=JUDGED, only=["form-*"])
    found = estimate(decoder, data, out, device="cpu")
    assert [item.what for item in found.trainings] == [
        "form-3-3-256",
        "form-3-3-256-three-times",
        "form-3-3-128",
        "form-1-1-256",
        "form-3-3-256-conv3-too",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_not_measured_is_reckoned(two_rows, data, tmp_path, monkeypatch):
    monkeypatch.setattr("atrous.ablation.cost.MEASURING_SECONDS", 1e-9)
    cost = estimate(two_rows, data, tmp_path, device="cpu")
    for items in (cost.trainings, cost.judgings):
        assert [item.measured for item in items] == [True, False]
        first, second = items
        assert second.seconds == pytest.approx(first.seconds * second.multiply_adds / first.multiply_adds)


@pytest.mark.slow
def test_results_of_other_settings_are_not_mixed(judged, data, recipe, tmp_path):
    _, out, _ = judged
    other = make_plan(INFERENCE, recipe, seeds=1, changes={**JUDGED, "optimizer.lr": 0.1})
    with pytest.raises(AtrousError, match=r"other settings \(optimizer.lr 0.003, now 0.1\): give another --out"):
        run(other, data, out)
    plan, _, _ = judged
    renamed = tmp_path / "data"
    renamed.mkdir()
    for path in data.rglob("*"):
        if path.is_file():
            there = renamed / path.relative_to(data).with_name(path.name.replace("0.png", "9.png"))
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())
    # Of another experiment there are no results yet, but models that it would take.
    for planned in (plan, make_plan(find_experiment("v3plus-decoder"), recipe, seeds=1, changes=JUDGED)):
        with pytest.raises(AtrousError, match=rf"holds models of another data set \({data.name}\): give another --out"):
            estimate(planned, renamed, out)


def test_two_at_once_are_refused(two_rows, data, tmp_path):
    (tmp_path / MULTIGRID.name).mkdir()
    with (
        FileLock(tmp_path / MULTIGRID.name / ".lock"),
        pytest.raises(AtrousError, match="another `atrous ablate` is at work"),
    ):
        run(two_rows, data, tmp_path)


def test_a_file_that_is_no_result_is_named(two_rows, data, tmp_path):
    path = tmp_path / "v3-multigrid/results/block4-1-1-1-seed5.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"miou": 1}))
    with pytest.raises(AtrousError, match=r"block4-1-1-1-seed5.json: not a result"):
        pending(two_rows, data, tmp_path)


@pytest.mark.slow
def test_a_model_is_judged_anew_on_other_photos(judged, data, tmp_path):
    plan, out, _ = judged
    shutil.copytree(out, tmp_path / "out")
    shutil.copytree(data, tmp_path / "data" / data.name)
    there = tmp_path / "data" / data.name
    (there / "images/val/1.png").unlink()
    (there / "masks/val/1.png").unlink()
    with pytest.raises(AtrousError, match=r"a result of other settings .*delete it"):
        pending(plan, there, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*seed5.json"):
        path.unlink()
    run(plan, there, tmp_path / "out")
    (folder,) = (path.parent for path in (tmp_path / "out").rglob("trained.json"))
    expected = evaluate(Predictor(*load_model(folder), "cpu"), there, scales=[0.5]).scores
    found = {result.row: result for result in read_results(tmp_path / "out", INFERENCE)}["output stride 16"]
    assert found.miou == expected.miou
    assert found.data["val"] == 1


@pytest.mark.slow
def test_a_folder_of_an_earlier_version_is_gone_on_with(judged, data, tmp_path):
    """It knew the photos by their names alone, and not what a model was judged on."""
    plan, out, _ = judged
    shutil.copytree(out, tmp_path / "out")
    for path in (*(tmp_path / "out").rglob("*seed5.json"), tmp_path / "out" / "data.json"):
        values = json.loads(path.read_text())
        values.get("data", values).pop("fingerprint")
        path.write_text(json.dumps(values))
    (trained,) = (tmp_path / "out").rglob("trained.json")
    trained.write_text(json.dumps(json.loads(trained.read_text())["scores"]))
    assert pending(plan, data, tmp_path / "out") == []
    (again,) = (
        path for path in (tmp_path / "out").rglob("*seed5.json") if path.name.startswith("output-stride-16-seed")
    )
    before = json.loads(again.read_text())["miou"]
    again.unlink()
    assert run(plan, data, tmp_path / "out") == [("output stride 16", 5)]
    assert json.loads(again.read_text())["miou"] == before
