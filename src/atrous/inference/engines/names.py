"""The engines by name, and which of them can run where."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.models import MultiScale, SegmentationModel
from atrous.weights.quantisation import Quantisation

AUTO = "auto"
AUTO_FLOAT32 = "auto-float32"
FLOAT32 = ("torch", "openvino", "onnxruntime")
INT8 = "openvino-int8"
PACKAGES = {
    "torch": (),
    "torch-bf16": (),
    "openvino": ("openvino", "onnx"),
    "openvino-bf16": ("openvino", "onnx"),
    INT8: ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
}
ENGINES = (AUTO, AUTO_FLOAT32, *PACKAGES)


class Engine(Protocol):
    """A model as it was when the engine was made; calls may come from several threads at once."""

    def coarse_logits(self, x: Tensor) -> Tensor:
        """float32 N×K×h×w on the device, of normalised and padded float32 N×3×H×W."""


def check_engine(name: str, device: torch.device) -> None:
    """Whether that engine can run on that device.

    Raises:
        AtrousError: an unknown name, packages that are not installed, or a device or processor that is not its own.
    """
    if name not in ENGINES:
        raise AtrousError(f"engine {name!r} is unknown: give one of {', '.join(ENGINES)}")
    reason = _obstacle(name, device) if name in PACKAGES else ""
    if reason:
        raise AtrousError(f"engine {name!r} {reason}")


def usable(device: torch.device, model: SegmentationModel, quantisation: Quantisation | None = None) -> list[str]:
    """The engines that can run that model there, torch first."""
    names = [name for name in PACKAGES if not _obstacle(name, device)]
    if quantisation is None:
        names = [name for name in names if name != INT8]
    return [name for name in names if not (PACKAGES[name] and isinstance(model, MultiScale))]


def versions(names: list[str]) -> str:
    """Atrous and the packages that these engines run on, with their versions."""
    found = {"torch": str(torch.__version__)}
    for package in ["atrous", *(package for name in names for package in PACKAGES[name])]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # installed by other means than pip
            found[package] = ""
    return ", ".join(f"{package} {number}".strip() for package, number in found.items())


def start(
    name: str, model: SegmentationModel, device: torch.device, quantisation: Quantisation | None = None
) -> Engine:
    """Makes an engine of the model as it is now; the model is left as it is.

    Raises:
        AtrousError: 8 bits for a model that was neither trained nor calibrated for them.
    """
    # Each imports its runtime, which is not to be waited for where it is not used.
    if name == "torch-bf16":
        from atrous.inference.engines.torch_bf16 import TorchBfloat16

        return TorchBfloat16(model, device)
    if name == "onnxruntime":
        from atrous.inference.engines.onnxruntime import OnnxRuntime

        return OnnxRuntime(model)
    if name in ("openvino", "openvino-bf16"):
        from atrous.inference.engines.folding import folded
        from atrous.inference.engines.graph import coarse_logits_graph
        from atrous.inference.engines.openvino import OpenVino
        from atrous.inference.engines.parts import in_parts

        graph = coarse_logits_graph(in_parts(folded(model)))
        return OpenVino(graph, "bf16" if name == "openvino-bf16" else "f32")
    if name == INT8:
        from atrous.inference.engines.openvino_int8 import OpenVinoInt8

        return OpenVinoInt8(model, checked(quantisation))
    from atrous.inference.engines.torch_float32 import TorchFloat32

    return TorchFloat32(model)


def checked(quantisation: Quantisation | None) -> Quantisation:
    """Raises an AtrousError where there is none."""
    if quantisation is None:
        raise AtrousError(
            f"engine {INT8!r} needs the steps by which a model rounds, and this one has none: let `atrous calibrate` "
            "find them, or give engine='openvino'"
        )
    return quantisation


def _obstacle(name: str, device: torch.device) -> str:
    """Why it cannot run there; empty where it can."""
    missing = [package for package in PACKAGES[name] if find_spec(package) is None]
    if missing:
        return f"needs {' and '.join(missing)}: pip install 'atrous[export]'"
    if PACKAGES[name] and device.type != "cpu":
        return f"runs on the CPU, not on {device}: give device='cpu', or engine='torch'"
    if name.endswith("bf16") and not _has_bfloat16(device):
        return f"needs a processor that computes in bfloat16, which {device} is not: give engine='{name[:-5]}'"
    if name == INT8 and not torch.cpu._is_vnni_supported():
        return "needs a processor with AVX-512 VNNI, which this one is not: give engine='openvino'"
    return ""


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    mkldnn = device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported())
