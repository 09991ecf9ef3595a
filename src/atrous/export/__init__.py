"""Trained models in the formats of other runtimes, such as ONNX and OpenVINO."""

from atrous.export.exporting import FORMATS, Exported, export_model

__all__ = ["FORMATS", "Exported", "export_model"]
