"""Trained models in the formats of other runtimes: ONNX, OpenVINO, TorchScript."""
