"""`calibrate`: a saved model that runs in 8 bits here, from one that was not trained for them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError
from atrous.export.calibration import Calibration, Loss
from atrous.export.compared import Photos
from atrous.export.exporting import LEAST_AGREEMENT
from atrous.export.steps import find_steps, showing
from atrous.inference import Predictor, load
from atrous.inference.engines import check_engine
from atrous.inference.engines.names import INT8
from atrous.inference.engines.quantised import quantised
from atrous.models import MultiScale


@dataclass(frozen=True)
class Calibrated:
    """A model with steps for 8 bits, and what they cost.

    Attributes:
        predictor: the float model; its card has the steps.
        loss: on photos that were held out.
        photos: how many showed ranges, and how many were held out.
    """

    predictor: Predictor
    loss: Loss
    photos: tuple[int, int]


def calibrate(
    source: Predictor | str | Path,
    folder: str | Path,
    begin: Callable[[str], None] = lambda _: None,
    advance: Callable[[float], None] = lambda _: None,
) -> Calibrated:
    """Finds the steps by which a model's numbers are rounded to 8 bits, and what labels that changes.

    The engine "openvino-int8" then runs it; its weights stay as they are, and all other engines give what they gave.
    Where that engine cannot run, the same roundings are judged in floats.

    Args:
        source: a predictor, or what `atrous.load` takes.
        folder: photos of the kind that it is for; or a labelled folder, as for `atrous eval`: then mIoU is told too.
        begin: called with what is being done from then on.
        advance: called with the share of it that was done since the last call.

    Raises:
        AtrousError: no photos, a model that has no single network, or one that 8 bits spoil.
    """
    predictor = source if isinstance(source, Predictor) else load(source, "cpu")
    model, card = predictor.model, predictor.card
    if isinstance(model, MultiScale):
        raise AtrousError(
            "a model with multi_scale runs on torch alone: calibrate its `single`, the model at one scale"
        )
    photos = Calibration(Path(folder), card.classes)

    begin("calibrating")
    show = showing(photos, card, lambda: advance(1 / len(photos)))
    card = replace(card, quantisation=find_steps(model, show))
    begin("comparing")
    rounded = _rounded(Predictor(model, card, "cpu"))
    loss = photos.loss(_labels(rounded), _labels(predictor), lambda: advance(1 / len(photos.held_out)))
    if loss.agreement < LEAST_AGREEMENT:
        raise AtrousError(
            f"8 bits keep only {loss.agreement:.1%} of the labels: this network does not bear them, or the photos in "
            f"{folder} are not what it was trained for"
        )
    told = {"photos": len(photos), "held_out": len(photos.held_out), "agreement": round(loss.agreement, 4)}
    card = replace(card, provenance={**card.provenance, "calibration": told})
    return Calibrated(Predictor(model, card, predictor.device), loss, (len(photos), len(photos.held_out)))


def _rounded(predictor: Predictor) -> Predictor:
    """In integers where they run here, else in floats."""
    model, card = predictor.model, predictor.card
    assert card.quantisation is not None
    try:
        check_engine(INT8, predictor.device)
    except AtrousError:
        return Predictor(quantised(model, card.quantisation), card, "cpu")
    return Predictor(model, card, "cpu", INT8)


def _labels(predictor: Predictor) -> Callable[[Photos], NDArray[np.uint8]]:
    return lambda photos: predictor(photos[0]).labels[None]
