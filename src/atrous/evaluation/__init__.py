"""Scores: how well a predictor does on labelled data."""

from atrous.evaluation.boundary import BoundaryIoU
from atrous.evaluation.calibration import Calibration, Reliability
from atrous.evaluation.confusion import ConfusionMatrix, Scores
from atrous.evaluation.evaluate import evaluate
from atrous.evaluation.evaluation import Evaluation, Photo, merge
from atrous.evaluation.report import write_report
from atrous.evaluation.server_masks import mask_writer
from atrous.evaluation.trimap import Trimap, TrimapCurve
from atrous.evaluation.windows import Windows

__all__ = [
    "BoundaryIoU",
    "Calibration",
    "ConfusionMatrix",
    "Evaluation",
    "Photo",
    "Reliability",
    "Scores",
    "Trimap",
    "TrimapCurve",
    "Windows",
    "evaluate",
    "mask_writer",
    "merge",
    "write_report",
]
