"""The package as a user meets it: what importing it costs, what it offers, and what its wheel carries."""

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import atrous

ROOT = Path(__file__).resolve().parents[1]


def heavy_modules_after(statement: str) -> set[str]:
    """Those of the slow libraries that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"torch", "cv2", "numba", "PIL", "lightning"} & set(run.stdout.split())


def test_import_is_cheap() -> None:
    assert heavy_modules_after("import atrous") == set()


def test_command_line_starts_without_torch() -> None:
    assert "torch" not in heavy_modules_after("import atrous.cli.main")


def test_importing_torch_would_have_been_noticed() -> None:
    assert "torch" in heavy_modules_after("import atrous\natrous.create_model")


def test_a_first_photo_does_not_wait_for_numba() -> None:
    photo = "import atrous, numpy\natrous.load('street', 'cpu')(numpy.zeros((360, 480, 3), 'uint8'))"
    assert "numba" not in heavy_modules_after(photo)


@pytest.mark.parametrize("name", atrous.__all__)
def test_public_names_come_from_the_rooms_they_are_said_to(name: str) -> None:
    assert getattr(atrous, name).__name__ == name
    assert getattr(atrous, name).__module__.startswith("atrous.")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'deeplab'"):
        atrous.deeplab  # noqa: B018


def test_version_is_the_installed_one() -> None:
    assert atrous.__version__ == metadata.version("atrous")


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every file of the wheel that this working tree builds, with its size in bytes."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    [wheel] = folder.glob("atrous-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


@pytest.mark.slow
def test_wheel_carries_the_whole_package(wheel_files: dict[str, int]) -> None:
    assert {f"atrous/{name}" for name in files_below(ROOT / "src/atrous")} <= wheel_files.keys()
    assert "atrous/py.typed" in wheel_files


@pytest.mark.slow
def test_wheel_carries_the_recipes(wheel_files: dict[str, int]) -> None:
    recipes = {f"atrous/recipes/{name}" for name in files_below(ROOT / "recipes")}
    assert recipes
    assert recipes <= wheel_files.keys()


@pytest.mark.slow
def test_wheel_carries_the_bundled_model_and_it_is_small(wheel_files: dict[str, int]) -> None:
    street = "atrous/weights/bundled/street"
    assert f"{street}/config.json" in wheel_files
    assert 0 < wheel_files[f"{street}/model.safetensors"] <= 10_000_000


@pytest.mark.slow
def test_wheel_carries_the_licence_and_nothing_else(wheel_files: dict[str, int]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_files)
    top = {name.partition("/")[0] for name in wheel_files}
    assert top == {"atrous", f"atrous-{atrous.__version__}.dist-info"}
    assert not [name for name in wheel_files if "tests" in Path(name).parts]
