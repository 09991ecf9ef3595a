"""Saved models: a directory of `config.json` and `model.safetensors`, or the latter alone.

The safetensors file carries the same configuration in its header, so that it can travel by itself.
"""

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from atrous.errors import AtrousError, WeightsError
from atrous.files import replacing
from atrous.models import SegmentationModel, create_model
from atrous.weights.card import ModelCard

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_BUNDLED = Path(__file__).parent / "bundled"
_KEY = "atrous"


def list_bundled() -> list[str]:
    """Names of the models that the package carries."""
    return sorted(path.parent.name for path in _BUNDLED.glob(f"*/{CONFIG}"))


def save_model(
    model: SegmentationModel, card: ModelCard, directory: str | Path, dtype: torch.dtype | None = None
) -> Path:
    """Writes a model so that `load_model` gives it back; both files appear whole or not at all.

    Args:
        dtype: what to store the kernels as, e.g. torch.float16; biases and batch-norm values keep theirs,
            since a running variance can leave half precision's range.

    Raises:
        AtrousError: the card is not for as many classes, or a file cannot be written.
    """
    directory = Path(directory)
    if len(card.classes) != model.num_classes:
        raise WeightsError(f"the model has {model.num_classes} classes, its card names {len(card.classes)}")
    config = _to_json({"model": model.config, **card.to_dict()})
    state = {
        name: tensor.detach().cpu().to(dtype if dtype and tensor.ndim > 1 else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    with replacing(directory / CONFIG) as described, replacing(directory / WEIGHTS) as weights:
        described.write_text(config + "\n", encoding="utf-8")
        _save(state, weights, {"format": "pt", _KEY: config})
    return directory


def _to_json(values: Mapping[str, Any]) -> str:
    """For people to read, too: each list of numbers on a line of its own."""
    spread = json.dumps(values, indent=1, ensure_ascii=False)
    # No string holds a line's end, which JSON escapes.
    return re.sub(r"\[\n[^][{}\"]*\]", lambda found: json.dumps(json.loads(found[0])), spread)


def write_state(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Writes tensors as another project reads them: .safetensors by that suffix, else as torch saves them.

    Raises:
        AtrousError: the file cannot be written; there is then none, or the old one.
    """
    with replacing(path) as unfinished:
        if unfinished.suffix == ".safetensors":
            _save(state, unfinished, {"format": "pt"})
        else:
            content = io.BytesIO()  # torch's own writer tells of a full disk by an error of its own making
            torch.save(dict(state), content)
            unfinished.write_bytes(content.getbuffer())


def _save(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.touch()
    mode = path.stat().st_mode  # of any new file; safetensors writes for the owner alone
    try:
        save_file(dict(state), path, metadata=metadata)
    except SafetensorError as error:  # which is how it says that the disk is full
        raise OSError(str(error)) from error
    path.chmod(mode)


def read_card(source: str | Path) -> tuple[dict[str, Any], ModelCard]:
    """The `create_model` arguments and the card of a saved model, without its weights.

    Raises:
        WeightsError: as `load_model`.
    """
    return _parse(*_read_config(_locate(source)))


def is_saved(source: str | Path) -> bool:
    """Whether `source` is a model that Atrous wrote, or that comes with it: `load_model` may still refuse it."""
    path = Path(source)
    if str(source) in list_bundled():
        return True
    if path.is_dir():
        path /= WEIGHTS
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    beside = path.with_name(CONFIG)
    if path.name == WEIGHTS and beside.is_file():  # transformers' and smp's models have files of these names, too
        text = _read_text(beside)
        try:
            return "model" in json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return False
    try:
        return _read_config(path) is not None
    except WeightsError:
        return False


def load_model(source: str | Path) -> tuple[SegmentationModel, ModelCard]:
    """Loads a saved model in float32, in eval mode, on the CPU.

    Args:
        source: a bundled model's name, a directory with `config.json` and `model.safetensors`, or a
            `.safetensors` file that Atrous wrote.

    Raises:
        WeightsError: nothing there, or not a model; the message says which.
    """
    path = _locate(source)
    config, card = _parse(*_read_config(path))
    try:
        model = create_model(**config)
    except (AtrousError, TypeError) as error:
        raise WeightsError(f"{path}: this configuration makes no model: {error}") from error
    if len(card.classes) != model.num_classes:
        raise WeightsError(f"{path}: the model has {model.num_classes} classes, its card names {len(card.classes)}")
    with _open(path) as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    expected = model.state_dict()
    _same_keys(path, expected, state)
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, not {tuple(expected[name].shape)}"
            raise WeightsError(f"{path}: {name} has the shape {shapes} as {config['name']} needs")
    model.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in state.items()})
    return model.eval(), card


def _same_keys(path: Path, expected: Iterable[str], found: Iterable[str]) -> None:
    missing, unknown = set(expected) - set(found), set(found) - set(expected)
    if missing or unknown:
        first = f"lacks {min(missing)}" if missing else f"holds {min(unknown)}, which the model does not have"
        raise WeightsError(f"{path}: does not fit its configuration: it {first} ({len(missing | unknown)} in all)")


def _locate(source: str | Path) -> Path:
    """The safetensors file that `source` stands for."""
    if str(source) in list_bundled():
        return _BUNDLED / str(source) / WEIGHTS
    path = Path(source)
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            raise WeightsError(f"{path}: no {WEIGHTS} in this directory; a saved model has it beside {CONFIG}")
        return path / WEIGHTS
    if path.is_file():
        if path.suffix != ".safetensors":
            raise WeightsError(f"{path}: not a .safetensors file, the one kind of model file that can be loaded")
        return path
    bundled = ", ".join(list_bundled()) or "none"
    raise WeightsError(f"no model {str(source)!r}: neither a bundled model ({bundled}) nor a directory or file")


def _open(path: Path) -> safe_open:
    try:
        path.open("rb").close()  # which tells better why a file cannot be read
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file, or cut short ({error})") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path}: not a model configuration, as it is no text ({error})") from error


def _read_config(path: Path) -> tuple[Path, str]:
    beside = path.parent / CONFIG
    if path.name == WEIGHTS and beside.is_file():
        return beside, _read_text(beside)
    with _open(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise WeightsError(f"{path}: carries no configuration; put its {CONFIG} beside it, named {WEIGHTS}")
    return path, text


def _parse(path: Path, text: str) -> tuple[dict[str, Any], ModelCard]:
    try:
        values = json.loads(text)
        return dict(values["model"]), ModelCard.from_dict(values)
    except KeyError as error:
        raise WeightsError(f"{path}: the configuration has no {error}, so it is not an Atrous model") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: not a model configuration ({error})") from error
