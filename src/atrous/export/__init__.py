"""Trained models in the formats of other runtimes, such as ONNX and OpenVINO; and in 8 bits here."""

from atrous.export.calibrating import Calibrated, calibrate
from atrous.export.exporting import FORMATS, Exported, export_model

__all__ = ["FORMATS", "Calibrated", "Exported", "calibrate", "export_model"]
