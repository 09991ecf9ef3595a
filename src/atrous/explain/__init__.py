"""The papers' ideas as pictures and numbers, from the code itself: one function an idea.

Each returns its data with `.plot()`, `.numbers()` and `.arrays()`; `save` writes the picture and the arrays.
"""

from atrous.explain.aspp import ASPPResponse, Branch, aspp_response
from atrous.explain.crf import CRFIterations, crf_iterations
from atrous.explain.explanation import Explanation, save
from atrous.explain.gridding import Gridding, Stack, gridding
from atrous.explain.opening import open_predictor
from atrous.explain.output_stride import OutputStrides, output_strides
from atrous.explain.paper import paper_page
from atrous.explain.photo import Photo, prepare
from atrous.explain.receptive_field import ReceptiveField, extents, receptive_field
from atrous.explain.spp import Pyramid, spp_bins, spp_of_photo
from atrous.explain.valid_weights import ValidWeights, valid_map, valid_weights
from atrous.explain.walk import Stage, Walk, explain_paper

__all__ = [
    "ASPPResponse",
    "Branch",
    "CRFIterations",
    "Explanation",
    "Gridding",
    "OutputStrides",
    "Photo",
    "Pyramid",
    "ReceptiveField",
    "Stack",
    "Stage",
    "ValidWeights",
    "Walk",
    "aspp_response",
    "crf_iterations",
    "explain_paper",
    "extents",
    "gridding",
    "open_predictor",
    "output_strides",
    "paper_page",
    "prepare",
    "receptive_field",
    "save",
    "spp_bins",
    "spp_of_photo",
    "valid_map",
    "valid_weights",
]
