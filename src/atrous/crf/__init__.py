"""Mean-field inference in the fully connected CRF of DeepLab v1 and v2."""

from atrous.crf.dense import DenseCRF
from atrous.crf.layer import CRFAsRNN
from atrous.crf.mean_field import mean_field, prepare
from atrous.crf.params import NAMED, CRFParams, parse_crf
from atrous.crf.unary import unary_from_labels, unary_from_logits, unary_from_probabilities

__all__ = [
    "NAMED",
    "CRFAsRNN",
    "CRFParams",
    "DenseCRF",
    "mean_field",
    "parse_crf",
    "prepare",
    "unary_from_labels",
    "unary_from_logits",
    "unary_from_probabilities",
]
