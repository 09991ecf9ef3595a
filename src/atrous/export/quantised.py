"""Post-training quantisation to 8 bits, after Jacob et al. (arXiv 1712.05877), by ONNX Runtime's quantiser."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from atrous.export.deployed import INPUT
from atrous.export.onnx import describe

# Activations that follow a convolution are rounded with it; resizing and what surrounds the network stay in float.
_OPERATORS = ["Conv", "Relu", "Clip", "Add", "Concat"]


def quantise_onnx(graph: Path, photos: Iterable[NDArray[np.uint8]], about: str, path: Path) -> None:
    """Weights to int8, a scale for each channel; activations to uint8, by the range that they have on the photos.

    Args:
        graph: a float ONNX file of a `Deployed`.
        photos: uint8 H×W×3 each.
    """
    with _quiet():
        model = onnx.load(graph)
        outside = [node.name for node in model.graph.node if not node.name.startswith("/network/")]
        quantize_static(
            model,
            path,
            _Photos(photos),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=outside,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    quantised = onnx.load(path)
    describe(quantised, about)
    path.write_bytes(quantised.SerializeToString())


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, photos: Iterable[NDArray[np.uint8]]) -> None:
        self._left = iter(photos)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        photo = next(self._left, None)
        return None if photo is None else {INPUT: photo[None]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Its runs warn of every clipping that rounding makes needless, and it warns that nothing was optimised before."""
    onnxruntime.set_default_logger_severity(3)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        onnxruntime.set_default_logger_severity(2)  # its default; it does not tell what it was
