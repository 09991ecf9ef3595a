"""Atrous: the whole DeepLab family for PyTorch.

The names below are the public face. They are imported when first used, so that `import atrous` and
`atrous --help` cost no more than they must.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from atrous.errors import AtrousError
    from atrous.evaluation import evaluate
    from atrous.inference import Failure, Predictor, Segmentation, load
    from atrous.models import create_model, describe, list_models

_HOME = {
    "AtrousError": "atrous.errors",
    "Failure": "atrous.inference",
    "Predictor": "atrous.inference",
    "Segmentation": "atrous.inference",
    "create_model": "atrous.models",
    "describe": "atrous.models",
    "evaluate": "atrous.evaluation",
    "list_models": "atrous.models",
    "load": "atrous.inference",
}

__all__ = [
    "AtrousError",
    "Failure",
    "Predictor",
    "Segmentation",
    "create_model",
    "describe",
    "evaluate",
    "list_models",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'atrous' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
