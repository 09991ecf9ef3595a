"""TensorFlow's DeepLab checkpoints, read without TensorFlow."""

from atrous.weights.tensorflow.deeplab import load_tensorflow

__all__ = ["load_tensorflow"]
