"""Atrous (separable) convolution, ASPP, image pooling and the decoder."""

from atrous.layers.aspp import ASPP, ImagePooling
from atrous.layers.conv import AtrousConv2d, ConvNormAct, PlainSeparableConv, SeparableConv, activation
from atrous.layers.decoder import Decoder, FineDecoder
from atrous.layers.norm import BatchNorm2d, normalise_and_activate
from atrous.layers.spp import SpatialPyramidPooling

__all__ = [
    "ASPP",
    "AtrousConv2d",
    "BatchNorm2d",
    "ConvNormAct",
    "Decoder",
    "FineDecoder",
    "ImagePooling",
    "PlainSeparableConv",
    "SeparableConv",
    "SpatialPyramidPooling",
    "activation",
    "normalise_and_activate",
]
