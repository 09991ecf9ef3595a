"""`atrous distill`: from a teacher and photos to a student, and what misuse says."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from atrous.evaluation import ConfusionMatrix
from atrous.inference import load
from atrous.weights import read_card

RECIPE = """
model: {name: deeplabv3_mobilenet_v2_050}
augment: {crop: [33, 33]}
schedule: {epochs: 1}
distill: {held_out: 1}
batch_size: 2
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "student.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.slow
def test_distill_leaves_a_student_and_says_how_far_it_agrees(atrous, model_folder, photos, recipe, tmp_path):
    out = tmp_path / "run"
    args = ("distill", recipe, "--teacher", model_folder, "--photos", photos, "--out", out, "--workers", 0)
    result = atrous(*args, "--scales", "1,1.5", "--flip", "--device", "cpu")
    assert result.exit_code == 0, result.output
    card = read_card(out)[1]
    assert card.classes == read_card(model_folder)[1].classes
    teacher = card.provenance["teacher"]
    assert (teacher["name"], teacher["scales"], teacher["flip"]) == ("small", [1.0, 1.5], True)
    assert card.provenance["recipe"] == "student.yaml"
    # Every photo was labelled; the one that no epoch saw judged the student.
    labels = {path.stem.split("-")[0]: path for path in (out / "teacher").glob("*/*.png")}
    assert set(labels) == {"a", "b", "c"}
    student = load(out, "cpu")
    agreed = []
    for photo in photos.iterdir():
        confusion = ConfusionMatrix(card.classes)
        confusion.add(np.array(Image.open(labels[photo.stem])), student(photo).labels)
        agreed.append(confusion.scores().pixel_accuracy)
    printed = re.search(r"like its teacher: ([\d.]+)% of pixels", result.stdout)
    assert printed is not None
    assert any(abs(float(printed[1]) / 100 - share) < 1e-4 for share in agreed)
    assert atrous(*args).exit_code == 2  # it holds a run already


@pytest.mark.slow
def test_a_labelled_split_judges_where_there_is_one(atrous, model_folder, photos, recipe, tmp_path):
    root = tmp_path / "labelled"
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, shape, top in (("images", (40, 40, 3), 256), ("masks", (40, 40), 4)):
            (root / kind / split).mkdir(parents=True)
            Image.fromarray(random.integers(0, top, shape, dtype=np.uint8)).save(root / kind / split / "1.png")
    classes = root / "classes.json"
    classes.write_text(json.dumps({"classes": read_card(model_folder)[1].classes}))
    args = ("distill", recipe, "--teacher", model_folder, "--photos", photos, "--data", root, "--workers", 0)
    result = atrous(*args, "--out", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 0, result.output
    provenance = read_card(tmp_path / "run")[1].provenance
    assert provenance["trained_on"] == "3 photos of photos, labelled by small; labelled train (1 photos)"
    printed = json.loads(atrous("eval", tmp_path / "run", "--data", root, "--json").stdout)
    assert provenance["agreement"]["pixels"] == printed["pixel_accuracy"]
    assert provenance["scores"]["split"] == "val"
    classes.write_text(json.dumps({"classes": ["a", "b", "c", "d"]}))
    result = atrous(*args, "--out", tmp_path / "other")
    assert result.exit_code == 2
    assert "are not the teacher's" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("none.yaml", "--teacher", "MODEL", "--photos", "PHOTOS"), "none.yaml: no recipe there"),
        (("RECIPE", "--teacher", "none", "--photos", "PHOTOS"), "no model 'none'"),
        (("RECIPE", "--teacher", "MODEL", "--photos", "none"), "none"),
        (("RECIPE", "--teacher", "MODEL", "--photos", "PHOTOS", "--scales", "x"), "--scales 'x'"),
        (("RECIPE", "--teacher", "MODEL", "--photos", "PHOTOS", "--data", "none"), "none: no such directory"),
        (("RECIPE", "--teacher", "MODEL", "--photos", "PHOTOS", "--set", "distill.held_out=3"), "held out"),
        (("RECIPE", "--teacher", "MODEL", "--photos", "PHOTOS", "--set", "distill.x=3"), "distill.x: unknown key"),
    ],
    ids=lambda v: v if isinstance(v, str) else None,
)
def test_misuse_is_one_line_and_exit_code_2(atrous, recipe, model_folder, photos, tmp_path, args, message):
    places = {"RECIPE": recipe, "MODEL": model_folder, "PHOTOS": photos}
    result = atrous("distill", *(places.get(arg, arg) for arg in args), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
