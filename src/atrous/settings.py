"""Settings as a person types them: a recipe's name, and `--set KEY=VALUE`."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from atrous.errors import RecipeError

_PACKAGE = Path(__file__).parent
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")  # of an installed package, and of a source tree


def shipped_recipes() -> dict[str, Path]:
    """The recipes that Atrous comes with: name to file, in the names' order."""
    folder = next((place for place in _PLACES if place.is_dir()), None)
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))} if folder else {}


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe: a path, or the name of one that Atrous comes with.

    Raises:
        RecipeError: neither.
    """
    path = Path(recipe)
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    known = shipped_recipes()
    if path.name not in known:
        raise RecipeError(f"{recipe}: no such file, and no recipe of that name; there are {', '.join(known)}")
    return known[path.name]


def describe_recipe(path: Path) -> str:
    """What a recipe's file says of itself in one line."""
    return str(yaml.safe_load(path.read_text(encoding="utf-8")).get("description", ""))


def parse_override(text: str) -> tuple[str, Any]:
    """The key and value of "optimizer.lr=0.01"; the value is read as YAML.

    Raises:
        RecipeError: another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {text}: it takes the form key=value, e.g. optimizer.lr=0.01")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {text}: {value!r} is not a value in YAML: put quotes around a text") from None
    if isinstance(parsed, str):
        # YAML reads 1e-3 as text; a number that Python reads is one.
        with suppress(ValueError):
            parsed = float(parsed)
    return key, parsed
