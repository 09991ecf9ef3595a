"""Settings as a person types them: `--set KEY=VALUE`."""

from contextlib import suppress
from typing import Any

import yaml

from atrous.errors import RecipeError


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
