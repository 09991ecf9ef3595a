"""Trained models in the formats of other runtimes, such as ONNX and OpenVINO."""
