"""`export_model`: a file for another runtime, which stands only once that runtime gives what torch gives."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError
from atrous.export.compared import COMPARED_AT, Comparison, Run, compare
from atrous.export.deployed import Deployed, Output, Size, metadata
from atrous.export.steps import find_shifts, showing
from atrous.files import scratch_beside
from atrous.inference import Predictor, load
from atrous.inference.engines.folding import folded
from atrous.inference.engines.quantised import shift_biases
from atrous.models import MultiScale, SegmentationModel

_ONNX = ("onnx", "onnxruntime")
# The ending of each format's file, and the packages that write and run it.
_ENDINGS = {"onnx": ".onnx", "onnx-int8": ".onnx", "openvino": ".xml", "torch": ".pt2", "litert": ".tflite"}
_NEEDED = {"onnx": _ONNX, "onnx-int8": _ONNX, "openvino": ("onnx", "openvino"), "torch": ()}
FORMATS = tuple(_ENDINGS)

_DEVIATION = 1e-3  # float32 summed in another order stays below 1e-5
LEAST_AGREEMENT = 0.8  # of 8 bits: below, the network does not bear them

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A file that was written, opened by its own runtime and compared with torch.

    Attributes:
        path: the file; OpenVINO's weights lie beside it in the .bin of the same name.
        format: one of `FORMATS`.
        deviation: of the float file's output from torch's, as in `atrous.export.compared.Comparison`.
        agreement: the share of pixels with torch's label; of an int8 file with the float file's, on the photos that
            it was calibrated with.
        miou: of an int8 file that was calibrated on a labelled folder: its own, and the float file's.
    """

    path: Path
    format: str
    deviation: float
    agreement: float
    miou: tuple[float, float] | None = None


def export_model(
    source: Predictor | str | Path,
    path: str | Path,
    format: str = "onnx",
    *,
    output: Output = "labels",
    size: Size | None = None,
    calibration: str | Path | None = None,
    progress: Progress = lambda _: None,
) -> Exported:
    """Writes a model for another runtime: photos' bytes in, labels or logits of the photos' own size out.

    The input is uint8, batch × height × width × 3, RGB; normalisation, padding, upsampling and cropping are in the
    file, so that it gives what `Predictor` gives. The file says so itself, with the classes and their colours, as JSON
    under "atrous" (ONNX: metadata; OpenVINO: runtime info; torch: the extra file atrous.json).

    Args:
        source: a predictor, or what `atrous.load` takes.
        path: a file with the format's ending (.onnx, .xml, .pt2, .tflite), or a folder for `model.*`.
        format: "onnx", "openvino", "torch" (`torch.export`), "onnx-int8", or "litert" where litert-torch is installed.
        output: "labels" (uint8, batch × height × width) or "logits" (float32, batch × classes × height × width).
        size: (height, width) of all photos; any without.
        calibration: for int8: a folder of photos, or a labelled one, as for `atrous eval`; then mIoU is told too.
        progress: called with what is being done.

    Raises:
        AtrousError: an impossible argument, a package that is missing, or a file whose output is not torch's; then
            nothing is written.
    """
    _check(format, output, size, calibration)
    target = _target(Path(path), format)
    predictor = source if isinstance(source, Predictor) else load(source, "cpu")
    if isinstance(predictor.model, MultiScale):
        raise AtrousError("a model with multi_scale cannot be exported: export its `single`, the model at one scale")
    try:
        with scratch_beside(target) as folder:
            exported = _write(predictor, folder / target.name, format, output, size, calibration, progress)
            for file in sorted(folder.iterdir(), key=lambda file: file.name == target.name):  # itself last
                file.replace(target.parent / file.name)
    except OSError as error:
        raise AtrousError(f"{target}: cannot be written: {error.strerror or error}") from error
    return Exported(target, format, *exported)


_Found = tuple[float, float, tuple[float, float] | None]


def _write(
    predictor: Predictor,
    path: Path,
    format: str,
    output: Output,
    size: Size | None,
    calibration: str | Path | None,
    progress: Progress,
) -> _Found:
    """Writes and compares; only what is to stay is left beside `path`."""
    deployed = Deployed(predictor.model, predictor.card, output, size)
    about = metadata(predictor.model, predictor.card, output)
    sizes = [size] if size else COMPARED_AT
    progress("writing")
    if format == "torch":
        from atrous.export.program import run_program, write_program

        write_program(deployed, about, path)
        return _compared(path, deployed, run_program, sizes, progress)
    if format == "litert":
        from atrous.export.litert import run_litert, write_litert

        write_litert(deployed, path)
        return _compared(path, deployed, run_litert, sizes, progress)

    from atrous.export.onnx import run_onnx, write_onnx

    graph = path if format == "onnx" else path.with_name("graph.onnx")
    write_onnx(deployed, about, graph)
    if format == "openvino":
        from atrous.export.openvino import run_openvino, write_openvino

        write_openvino(graph, about, path)
        graph.unlink()
        return _compared(path, deployed, run_openvino, sizes, progress)
    found = _compared(graph, deployed, run_onnx, sizes, progress)
    if format == "onnx":
        return found

    from atrous.export.calibration import Calibration
    from atrous.export.quantised import quantise_onnx

    photos = Calibration(Path(calibration or ""), predictor.classes, size)
    progress(f"calibrating on {len(photos)} photos")
    corrected = path.with_name("corrected.onnx")
    write_onnx(Deployed(_corrected(predictor, photos), predictor.card, output, size), about, corrected)
    quantise_onnx(corrected, photos, about, path)
    corrected.unlink()
    progress("comparing")
    loss = photos.loss(run_onnx(path), run_onnx(graph))
    graph.unlink()
    if loss.agreement < LEAST_AGREEMENT:
        raise AtrousError(
            f"8 bits keep only {loss.agreement:.1%} of the labels: this network does not bear them, or the photos in "
            f"{calibration} are not what it was trained for"
        )
    return found[0], loss.agreement, loss.miou


def _corrected(predictor: Predictor, photos: Iterable[NDArray[np.uint8]]) -> SegmentationModel:
    """A copy whose biases make up for what rounding its weights will add: the quantiser's steps are those of ours."""
    twin = folded(predictor.model)
    shift_biases(twin, find_shifts(predictor.model, showing(photos, predictor.card)))
    return twin


def _compared(
    path: Path,
    deployed: Deployed,
    opened: Callable[[Path], Run],
    sizes: tuple[Size, ...] | list[Size],
    progress: Progress,
) -> _Found:
    progress("comparing")
    found: Comparison = compare(deployed, opened(path), sizes)
    if not found.deviation <= _DEVIATION:
        raise AtrousError(
            f"{path.name}: its runtime gives other {deployed.output} than torch, off by {found.deviation:.1e} "
            f"({found.agreement:.2%} of the pixels agree); nothing was written"
        )
    return found.deviation, found.agreement, None


def _check(format: str, output: str, size: Size | None, calibration: str | Path | None) -> None:
    if format not in FORMATS:
        raise AtrousError(f"format {format!r} is unknown: give one of {', '.join(FORMATS)}")
    if output not in ("labels", "logits"):
        raise AtrousError(f"output {output!r} is neither labels nor logits")
    if size is not None and not _is_size(size):
        raise AtrousError(f"size {size!r} is not (height, width) in pixels, e.g. (513, 513)")
    if (format == "onnx-int8") != (calibration is not None):
        wrong = "needs" if calibration is None else "takes no"
        raise AtrousError(f"format {format!r} {wrong} calibration photos; onnx-int8 alone is made by them")
    if format == "litert":
        _check_litert(size)
    missing = [package for package in _NEEDED.get(format, ()) if find_spec(package) is None]
    if missing:
        raise AtrousError(f"format {format!r} needs {' and '.join(missing)}: pip install 'atrous[export]'")


def _is_size(size: object) -> bool:
    return (
        isinstance(size, (tuple, list))
        and len(size) == 2
        and all(isinstance(side, (int, np.integer)) and side >= 1 for side in size)
    )


def _check_litert(size: Size | None) -> None:
    missing = [name for name in ("litert_torch", "ai_edge_litert") if find_spec(name) is None]
    if missing:
        raise AtrousError(f"format 'litert' needs {' and '.join(missing)}: pip install litert-torch")
    if size is None:
        raise AtrousError("format 'litert' needs a size: its files hold for one, e.g. 513x513")


def _target(path: Path, format: str) -> Path:
    ending = _ENDINGS[format]
    suffix = path.suffix.lower()
    if suffix == ending and not path.is_dir():
        return path
    if suffix in (*_ENDINGS.values(), ".bin") or path.is_file():
        raise AtrousError(f"{path}: a file of format {format!r} ends in {ending}; or give a folder")
    return path / f"model{ending}"
