"""Names for architectures: `create_model` and `list_models`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any

import numpy as np

from atrous.backbones import BACKBONES
from atrous.errors import AtrousError
from atrous.models.multi_scale import MultiScale
from atrous.models.segmentation import SegmentationModel, check_num_classes


@dataclass(frozen=True)
class Architecture:
    """A model class on a backbone, with options that differ from the class's own defaults."""

    model: type[SegmentationModel]
    backbone: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    verified: str = ""


_ARCHITECTURES: dict[str, Architecture] = {}


def register(name: str, model: type[SegmentationModel], backbone: str, *, verified: str = "", **defaults: Any) -> None:
    """Gives an architecture its name.

    `model` takes (backbone, num_classes, output_stride) and keyword options; what it does not take is handed
    to the backbone. `verified` says in a few words what the tests hold it to.
    """
    _ARCHITECTURES[name] = Architecture(model, backbone, defaults, verified)


def verified(name: str) -> str:
    """What the tests hold an architecture to, in a few words; empty for a name that is not registered."""
    return _ARCHITECTURES[name].verified if name in _ARCHITECTURES else ""


def backbone_of(name: str) -> str:
    """The backbone of an architecture of `list_models()`, e.g. "resnet101"."""
    return _ARCHITECTURES[name].backbone


def list_models() -> list[str]:
    """The architectures that `create_model` knows."""
    return sorted(_ARCHITECTURES)


def create_model(
    name: str,
    num_classes: int = 21,
    output_stride: int | None = None,
    *,
    multi_scale: Sequence[float] | None = None,
    **options: Any,
) -> SegmentationModel:
    """Makes a model with random weights.

    Args:
        name: one of `list_models()`, e.g. "deeplabv3plus_resnet101".
        num_classes: K, 1 to 256.
        output_stride: 8, 16 or 32; the architecture's own if not given.
        multi_scale: scales to run the input at, their logits' maximum taken (v2), e.g. [0.5, 0.75, 1.0].
        options: what the architecture takes besides, e.g. `aspp_rates=(6, 12, 18)`, `multi_grid=(1, 2, 4)`.

    Raises:
        AtrousError: an unknown name or option, or an impossible value.
    """
    if name not in _ARCHITECTURES:
        raise AtrousError(f"no architecture is called {name!r}; there are {', '.join(list_models())}")
    check_num_classes(num_classes)
    num_classes = int(num_classes)
    options = {name: _plain(value) for name, value in options.items()}
    architecture = _ARCHITECTURES[name]
    make_backbone = BACKBONES[architecture.backbone]
    head_options = _keywords(architecture.model)
    backbone_options = _keywords(make_backbone)
    known = [*head_options, *backbone_options]
    for option in options:
        if option not in known:
            raise AtrousError(f"{name} has no option {option!r}; it takes {', '.join(known)}")
    chosen = {**architecture.defaults, **options}
    backbone = make_backbone(**{key: chosen[key] for key in backbone_options if key in chosen})
    stride = architecture.model.default_output_stride if output_stride is None else _plain(output_stride)
    make_model: Callable[..., SegmentationModel] = architecture.model
    model = make_model(backbone, num_classes, stride, **{key: chosen[key] for key in head_options if key in chosen})
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in options.items()}
    model._config = {"name": name, "num_classes": num_classes, **plain}
    return model if multi_scale is None else MultiScale(model, multi_scale)


def _plain(value: Any) -> Any:
    """numpy's numbers and arrays as Python's own, which a saved model can tell."""
    if isinstance(value, list | tuple):
        return type(value)(_plain(each) for each in value)
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _keywords(function: Callable[..., Any]) -> list[str]:
    return [p.name for p in signature(function).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
