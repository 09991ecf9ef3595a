"""Who takes part: the engines that can run a model here, and the peers that can run its very weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from atrous.errors import AtrousError
from atrous.inference.engines import check_engine
from atrous.inference.engines.names import PACKAGES, usable
from atrous.layers import ASPP
from atrous.models import SegmentationModel, SmpDeepLabV3
from atrous.weights import Converted, export_state, fetch, find_entry

REFERENCE = "torch"
PEERS = {
    "torchvision": ("torchvision", "torchvision"),
    "smp": ("segmentation_models_pytorch", "segmentation-models-pytorch"),
    "transformers": ("transformers", "transformers"),
    "litert": ("ai_edge_litert", "ai-edge-litert"),
}
"""Each peer's module, and its package."""


@dataclass(frozen=True)
class Contestant:
    """What is measured.

    Attributes:
        name: the engine's or the peer's.
        packages: what it runs on, with versions.
        start: "module:function" of what starts it, see `atrous.bench.process`.
        spec: what that needs to know.
    """

    name: str
    packages: str
    start: str
    spec: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LeftOut:
    """What is not measured, and why."""

    name: str
    reason: str


def engines(
    names: Sequence[str] | None, opened: Converted, source: str, device: torch.device
) -> Iterator[Contestant | LeftOut]:
    """The engines of those names, or all; torch always and first: the others' labels are held to its.

    Raises:
        AtrousError: a name that is no engine's.
    """
    able = usable(device, opened.model, opened.card.quantisation)
    for name in dict.fromkeys((REFERENCE, *(PACKAGES if names is None else names))):
        if name not in PACKAGES:
            raise AtrousError(f"engine {name!r} is unknown: give some of {', '.join(PACKAGES)}")
        try:
            check_engine(name, device)
        except AtrousError as error:
            yield LeftOut(name, str(error))
            continue
        if name not in able:
            yield LeftOut(name, "cannot run this network: it is not calibrated for 8 bits, or runs on torch alone")
            continue
        packages = [package for package in PACKAGES[name] if package != "onnx"] or ["torch"]
        spec = {"model": source, "engine": name}
        yield Contestant(name, ", ".join(map(_versioned, packages)), "atrous.bench.ours:start", spec)


def peers(opened: Converted, source: str, folder: Path) -> Iterator[Contestant | LeftOut]:
    """The peers that are installed, with the model's weights written to `folder` for those that take it."""
    for name, (module, package) in PEERS.items():
        if find_spec(module) is None:
            yield LeftOut(name, "not installed")
            continue
        try:
            spec = _litert(source) if name == "litert" else _torch(name, opened, folder)
        except AtrousError as error:
            yield LeftOut(name, str(error))
        else:
            yield Contestant(name, _versioned(package), f"atrous.bench.peers:{name}", spec)


def _litert(source: str) -> dict[str, Any]:
    entry = None if Path(source).exists() else find_entry(source)
    file = fetch(entry) if entry else Path(source)
    if not file.is_file() or file.read_bytes()[4:8] != b"TFL3":
        raise AtrousError("runs TFLite files, which the model does not come from")
    return {"file": str(file)}


def _torch(name: str, opened: Converted, folder: Path) -> dict[str, Any]:
    model = opened.model
    state = export_state(model, name)
    network, options = {"torchvision": _torchvision, "smp": smp_network, "transformers": _transformers}[name](model)
    file = folder / f"{name}.safetensors"
    save_file(state, file)
    card = opened.card
    return {"network": network, "options": options, "state": str(file), "mean": card.mean, "std": card.std}


def _torchvision(model: SegmentationModel) -> tuple[str, dict[str, Any]]:
    there = type(model).default_output_stride
    if model.output_stride != there:
        raise AtrousError(f"has the output stride {there} alone, the model has {model.output_stride}")
    network = model.config["name"].removeprefix("torchvision_")
    return network, {"num_classes": model.num_classes, "aux_loss": bool(model.config.get("aux"))}


def smp_network(model: SegmentationModel) -> tuple[str, dict[str, Any]]:
    """The class there, and what makes it this network."""
    _, _, encoder = model.config["name"].removeprefix("smp_").partition("_")
    if encoder.startswith("xception") or model.config.get("stride_placement") == "first_3x3":
        encoder = f"tu-{encoder}"
    assert isinstance(model.aspp, ASPP)  # as in all of smp's
    v3 = isinstance(model, SmpDeepLabV3)
    options = {
        "encoder_name": encoder,
        "encoder_output_stride": model.output_stride,
        "decoder_channels": model.config.get("channels", 256),
        "decoder_atrous_rates": list(model.aspp.rates),
        "decoder_aspp_separable": model.config.get("separable", not v3),
        "classes": model.num_classes,
    }
    return "DeepLabV3" if v3 else "DeepLabV3Plus", options


def _transformers(model: SegmentationModel) -> tuple[str, dict[str, Any]]:
    options: dict[str, Any] = {"num_labels": model.num_classes, "output_stride": model.output_stride}
    if model.config["name"].endswith("_050"):
        options |= {"depth_multiplier": 0.5, "depth_divisible_by": 1, "min_depth": 1}
    return "", options


def _versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:  # installed by other means than pip
        return package
