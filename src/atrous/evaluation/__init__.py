"""Scores: how well a predictor does on labelled data."""

from atrous.evaluation.confusion import ConfusionMatrix, Scores
from atrous.evaluation.evaluate import evaluate

__all__ = ["ConfusionMatrix", "Scores", "evaluate"]
