"""A backbone's weights from a file: an ImageNet classifier's, or those of another model's backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from atrous.errors import WeightsError
from atrous.weights.converted import ClassifierError
from atrous.weights.open import open_model
from atrous.weights.schemes import Layout, take

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]

# What a backbone computes beside its weights, and batch norm's form with it.
_FORMS = ("stride_placement", "variant")


def load_backbone(backbone: nn.Module, source: str | Path) -> Normalisation:
    """Fills a model's backbone.

    Args:
        source: an ImageNet classifier, torchvision's, timm's or Google's quantised MobileNetV2, or whatever
            `open_model` takes.

    Returns:
        Mean and deviation by which RGB in 0..1 is normalised for these weights.

    Raises:
        WeightsError: nothing there, or weights of another network than `backbone`, or of the same in another form.
    """
    try:
        opened = open_model(source)
    except ClassifierError as error:
        classifier = error.classifier
        _same_form(source, classifier.options, backbone)
        classifier.fill(backbone)
        return classifier.mean, classifier.std
    theirs = opened.model.backbone
    _same_form(source, {form: getattr(theirs, form, "") for form in _FORMS}, backbone)
    try:
        take(theirs.state_dict(), backbone, Layout(str))
    except WeightsError as error:
        raise WeightsError(f"{source}: {opened.found}, whose backbone is another: {error}") from error
    return opened.card.mean, opened.card.std


def _same_form(source: str | Path, theirs: Mapping[str, Any], backbone: nn.Module) -> None:
    """Whether the backbone computes on these weights what they were learnt for."""
    for form in _FORMS:
        there, here = str(theirs.get(form, "")), str(getattr(backbone, form, ""))
        # Where the stride is not taken out, "first_3x3" and "first_3x3_dilated" are one.
        if there and here.removesuffix("_dilated") != there.removesuffix("_dilated"):
            raise WeightsError(
                f"{source}: its backbone has {form}={there!r}, this one {here!r}, which gives other features: "
                f"make the model with {form}={there!r}"
            )
