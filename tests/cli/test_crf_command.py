"""`atrous crf fit`, and `--crf` of `atrous predict`."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from atrous.crf import parse_crf
from atrous.evaluation import fit_crf
from atrous.inference import load


@pytest.fixture
def labelled(photos, model_folder, tmp_path):
    """The photos with the model's own labels, but for a band that is wrong."""
    predictor = load(model_folder)
    folder = tmp_path / "data"
    for kind in ("images", "masks"):
        (folder / kind / "val").mkdir(parents=True)
    classes = {"classes": predictor.classes, "palette": predictor.card.palette}
    (folder / "classes.json").write_text(json.dumps(classes))
    for photo in photos.glob("*.png"):
        labels = predictor(photo).labels.copy()
        labels[:5] = 255
        Image.open(photo).save(folder / "images/val" / f"{photo.stem}.png")
        Image.fromarray(labels).save(folder / "masks/val" / f"{photo.stem}.png")
    return folder


def test_fit_writes_a_file_that_predict_takes(atrous, labelled, photos, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_crf, "_STAGES", 1)
    file = tmp_path / "crf.yaml"
    result = atrous("crf", "fit", model_folder, "--data", labelled, "--out", file, "--photos", 2)
    assert result.exit_code == 0, result.stderr
    found = re.fullmatch(rf"wrote {re.escape(str(file))}: mean IoU ([\d.]+)%, ([\d.]+)% without a CRF\n", result.stdout)
    assert found
    assert float(found[1]) >= float(found[2])
    out = tmp_path / "out"
    for crf in (file, "pydensecrf"):
        assert atrous("predict", photos / "a.png", "--out", out, "--mask", "--crf", crf).exit_code == 0
        expected = load(model_folder)(photos / "a.png", crf=parse_crf(str(crf))).labels
        np.testing.assert_array_equal(np.asarray(Image.open(out / "a.png")), expected)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["predict", "{photo}", "--out", "{out}", "--crf", "vok"], "crf 'vok': neither a file nor one of voc"),
        (["crf", "fit", "{model}", "--data", "{data}", "--out", "{out}", "--start", "vok"], "crf 'vok'"),
        (["crf", "fit", "{model}", "--data", "{out}", "--out", "{out}"], "out"),
        (["crf", "fit", "{model}", "--data", "{data}", "--out", "{out}", "--photos", "0"], "photos=0"),
        (["crf", "fit", "{model}", "--data", "{data}", "--out", "{out}", "--scales", "x"], "--scales 'x'"),
    ],
)
def test_misuse_is_one_line_and_2(atrous, labelled, photos, model_folder, tmp_path, args, message):
    places = {"photo": photos / "a.png", "out": tmp_path / "out", "model": model_folder, "data": labelled}
    result = atrous(*(arg.format(**places) for arg in args))
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert line.startswith("atrous: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
