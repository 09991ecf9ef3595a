"""A photo as an explanation shows it and as the network sees it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from atrous.data import ImageSource, read_image
from atrous.inference import Predictor
from atrous.inference.network import Network

LONGEST = 1025  # pixels a side: every map of a network is kept at once, and its gradient


@dataclass(frozen=True)
class Photo:
    """A photo, and the same for a model.

    Attributes:
        picture: uint8 H×W×3, RGB.
        tensor: float32 1×3×H'×W', normalised, and padded at the right and bottom to what suits the output stride.
    """

    picture: NDArray[np.uint8]
    tensor: Tensor


def prepare(predictor: Predictor, source: ImageSource, longest: int = LONGEST) -> Photo:
    """Reads a photo, and makes it smaller where a side has more than `longest` pixels.

    Raises:
        ImageError: it cannot be read.
    """
    picture = read_image(source)
    scale = longest / max(picture.shape)
    if scale < 1:
        height, width = (max(round(side * scale), 1) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    card = predictor.card
    network = Network(predictor.model, card.mean, card.std, predictor.device)  # also puts it in evaluation mode
    height, width, _ = picture.shape
    return Photo(picture, network.normalise([picture], network.padded(height, width)))
