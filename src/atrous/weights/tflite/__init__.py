"""Google's quantised DeepLabs in TFLite files, as floats."""

from atrous.weights.tflite.coral import load_tflite

__all__ = ["load_tflite"]
