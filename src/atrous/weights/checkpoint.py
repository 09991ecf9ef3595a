"""Opening other projects' checkpoint files without running what is in them.

Pickles go through torch's `weights_only` reader alone. It refuses every name but tensors' own; those added here are the
ones that training scripts leave beside their weights (numpy's numbers and arrays, and mmengine's loss history, for
which a class without behaviour stands in).
"""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from atrous.errors import WeightsError
from atrous.weights.schemes import mmsegmentation

# Where a checkpoint has its weights beside other things, by who writes it: VainF; jfzhang95, mmsegmentation and
# Lightning; torchvision's references; others.
_WRAPPERS = ("model_state", "state_dict", "model", "model_state_dict", "net", "weights")
_TF_EPS = 1e-3
_DEEPEST = 4  # wrappers within one another
# What a wrapping module puts before every name: (Distributed)DataParallel, a LightningModule, torch.compile.
_PREFIXES = ("module.", "model.", "_orig_mod.")
_DIRECTORY_FILES = ("model.safetensors", "pytorch_model.bin")


class _Inert:
    """Stands for a class of a training framework: takes whatever was pickled and does nothing."""


def _names_allowed() -> list[Any]:
    from numpy._core import multiarray

    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    arrays = [
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in (("scalar", multiarray.scalar), ("_reconstruct", multiarray._reconstruct))
    ]
    return [*dtypes, *arrays, np.dtype, np.ndarray, (_Inert, "mmengine.logging.history_buffer.HistoryBuffer")]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors under their bare names.

    Attributes:
        path: the file.
        state: name to tensor, on the CPU; wrappers and prefixes that all names share are gone.
        hints: what else was said about the network: "classes", "palette", "output_stride" and others of
            `create_model`'s options, "mean", "std"; "network", as timm or smp calls the classifier or encoder.
    """

    path: Path
    state: Mapping[str, Tensor]
    hints: Mapping[str, Any] = field(default_factory=dict)


def read_checkpoint_file(path: str | Path) -> Checkpoint:
    """Reads a `.safetensors` or pickled checkpoint, or a directory of transformers', smp's or timm's.

    Raises:
        WeightsError: not a checkpoint, cut short, or one that could run code; the message says which and the mend.
    """
    path = Path(path)
    hints: dict[str, Any] = {}
    if path.is_dir():
        path, hints = _file_in(path), _hints_beside(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state, rest = _unwrap(path, content)
    return Checkpoint(path, _without_prefixes(state), {**_hints_of_meta(rest.get("meta")), **hints})


def _file_in(directory: Path) -> Path:
    for name in _DIRECTORY_FILES:
        if (directory / name).is_file():
            return directory / name
    raise WeightsError(f"{directory}: holds no {' or '.join(_DIRECTORY_FILES)}: name the checkpoint file itself")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file, or cut short ({error})") from error


def _read_pickle(path: Path) -> Any:
    try:
        _refuse_other_archives(path)
        with torch.serialization.safe_globals(_names_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise WeightsError(f"{path}: {_why_not(path, error)}") from error


def _refuse_other_archives(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise WeightsError(
            f"{path}: a TorchScript archive, which holds code: "
            "save the weights alone, torch.save(model.state_dict(), FILE)"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise WeightsError(f"{path}: a zip archive, not a checkpoint: unpack it and name the checkpoint within")


def _why_not(path: Path, error: Exception) -> str:
    name = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if name is not None:
        return (
            f"not loaded, because it holds {name[1].rstrip('.')}, and reading that could run code. "
            "Where you trust it, save its weights alone: torch.save(model.state_dict(), FILE)"
        )
    with path.open("rb") as file:
        start = file.read(16)
    if start.lstrip()[:1] == b"<":
        return "a web page, not a checkpoint; the download went wrong"
    return "not a checkpoint that can be read, or cut short; fetch it again"


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The tensors, and what lay around them."""
    tensors, around = _most_tensors(content, {}, _DEEPEST)
    if not tensors:
        raise WeightsError(f"{path}: holds no weights: no tensors by name in it, nor under {', '.join(_WRAPPERS)}")
    return tensors, around


def _most_tensors(content: Any, around: Mapping[str, Any], depth: int) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Of a mapping and those under its wrappers' names the one with the most tensors, and what lies around that.

    A tensor such as the best score may stand beside the weights.
    """
    if not isinstance(content, Mapping):
        return {}, around
    own = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    wrapped = [content[name] for name in _WRAPPERS if depth and name in content]
    found = [(own, around), *(_most_tensors(each, content, depth - 1) for each in wrapped)]
    return max(found, key=lambda each: len(each[0]))


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _hints_of_meta(meta: Any) -> dict[str, Any]:
    """mmsegmentation's `meta`: CLASSES and PALETTE, in its newer files within `dataset_meta`; the configuration."""
    if not isinstance(meta, Mapping):
        return {}
    inner = meta.get("dataset_meta")
    values = {
        str(key).lower(): value for key, value in {**meta, **(inner if isinstance(inner, Mapping) else {})}.items()
    }
    configuration = values.get("config", values.get("cfg"))
    hints: dict[str, Any] = {}
    if isinstance(configuration, str) and "decode_head=" in configuration:
        hints |= mmsegmentation.options_in(configuration)
    if isinstance(values.get("classes"), (list, tuple)):
        hints["classes"] = tuple(str(name) for name in values["classes"])
        if isinstance(values.get("palette"), (list, tuple)) and len(values["palette"]) == len(hints["classes"]):
            hints["palette"] = tuple(tuple(int(value) for value in colour) for colour in values["palette"])
    return hints


def _hints_beside(directory: Path) -> dict[str, Any]:
    """transformers' `config.json` and `preprocessor_config.json`, or smp's or timm's `config.json`."""
    hints: dict[str, Any] = {}
    config, preprocessor = _json(directory / "config.json"), _json(directory / "preprocessor_config.json")
    if config.get("tf_padding") is False:
        raise WeightsError(f"{directory}: a MobileNetV2 made without tf_padding, of which there is no like here")
    if config.get("layer_norm_eps", _TF_EPS) != _TF_EPS and "tf_padding" in config:
        raise WeightsError(
            f"{directory}: a MobileNetV2 with layer_norm_eps={config['layer_norm_eps']}; here it is .001"
        )
    for name in ("architecture", "encoder_name"):  # timm's, smp's
        if isinstance(config.get(name), str):
            hints["network"] = config[name]
    if isinstance(config.get("id2label"), dict):
        labels = tuple(
            str(name) for _, name in sorted((int(index), name) for index, name in config["id2label"].items())
        )
        if labels[:1] != ("LABEL_0",):  # what transformers writes where nobody named them
            hints["classes"] = labels
    for name in ("output_stride", "encoder_output_stride"):
        if name in config:
            hints["output_stride"] = config[name]
    if "decoder_atrous_rates" in config:
        hints["aspp_rates"] = tuple(config["decoder_atrous_rates"])
    pretrained = config.get("pretrained_cfg")  # timm's
    for name in ("mean", "std"):
        values = preprocessor.get(f"image_{name}")
        if isinstance(pretrained, dict) and name in pretrained:
            values = pretrained[name]
        if isinstance(values, list) and len(values) == 3:
            hints[name] = tuple(float(value) for value in values)
    return hints


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path}: not JSON ({error})") from error
    return values if isinstance(values, dict) else {}
