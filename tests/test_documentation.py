"""The documentation's examples do what they show, in a folder with the photos that they name."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from atrous.cli.main import app
from atrous.weights import read_card

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def pages_with(language: str) -> list[object]:
    return [pytest.param(page, id=page.name) for page in PAGES if blocks(page, language)]


def make_data_set(root: Path) -> None:
    """Noise, in the classes of the bundled model."""
    classes = {"classes": read_card("street")[1].classes, "palette": read_card("street")[1].palette}
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind / "val").mkdir(parents=True)
    (root / "classes.json").write_text(json.dumps(classes))
    Image.fromarray(random.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(root / "images/val/1.jpg")
    Image.fromarray(random.integers(0, 11, (96, 128), dtype=np.uint8)).save(root / "masks/val/1.png")


@pytest.fixture(autouse=True)
def folder_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with every photo that the examples name, and the data set `data/`."""
    random = np.random.default_rng(0)
    for name in ("photo.jpg", "holiday/a.jpg", "holiday/c.jpg", "trip/one/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (96, 128, 3), dtype=np.uint8)).save(tmp_path / name)
    make_data_set(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("python"))
def test_python_examples_run(page: Path) -> None:
    names: dict[str, object] = {}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands_succeed(page: Path, folder_of_photos: Path) -> None:
    commands = [line for code in blocks(page, "sh") for line in code.splitlines() if line.startswith("atrous ")]
    for command in commands:
        outcome = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
        assert outcome.exit_code == 0, f"{command}\n{outcome.output}"
    if any(command.startswith("atrous predict photo.jpg") for command in commands):
        assert (folder_of_photos / "masks/photo.png").is_file()


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in [*PAGES, ROOT / "CONTRIBUTING.md"]])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not os.path.exists(page.parent / link)] == []
