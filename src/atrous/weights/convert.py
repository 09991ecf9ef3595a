"""Other projects' checkpoints to models here, and back."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atrous.backbones import BACKBONES
from atrous.classes import known_classes
from atrous.errors import AtrousError, WeightsError
from atrous.models import SegmentationModel, backbone_of, create_model
from atrous.weights.card import ModelCard
from atrous.weights.checkpoint import Checkpoint, read_checkpoint_file
from atrous.weights.classes import card_for
from atrous.weights.converted import Classifier, ClassifierError, Converted
from atrous.weights.schemes import SCHEMES, Found, Scheme, give, recognise, take
from atrous.weights.schemes.scheme import by_prefix

Classes = str | Sequence[str]
_STRIDE_AND_RATE = ("stride", "dilation", "rate", "padding")
# timm's and smp's names of what has the backbone's form, as far as they are not its own name.
_RESNET = r"(tv_|gluon_)?resnet{}[cs]?(_v1[bcs])?"
_ALIASES = {
    "resnet50": _RESNET.format(50),
    "resnet101": _RESNET.format(101),
    "mobilenet_v2": r"mobilenet_v2|mobilenetv2_100",
    "mobilenet_v2_050": r"mobilenetv2_050",
    "mobilenet_v3_large": r"tf_mobilenetv3_large_100",
    "mobilenet_v3_small": r"tf_mobilenetv3_small_100",
    **{f"efficientnet_lite{number}": f"tf_efficientnet_lite{number}" for number in range(5)},
}
_HINTED = ("output_stride", "aspp_rates", "multi_grid", "align_corners")  # of a checkpoint's hints, create_model's


def convert_checkpoint(path: str | Path, **options: Any) -> Converted:
    """A model from a PyTorch checkpoint of a project that `SCHEMES` lists.

    Args:
        options: `create_model`'s, where the file does not tell or tells wrongly, e.g. `output_stride=8`.

    Raises:
        WeightsError: not a checkpoint, no project that is known here, or a network that cannot be carried over
            faithfully; the message names the file and the reason.
    """
    checkpoint = read_checkpoint_file(path)
    scheme, found = _recognised(checkpoint)
    hints = checkpoint.hints
    _refuse_namesake(checkpoint, found)
    if found.backbone:
        name = _named(scheme, found)
        fill_it = partial(_fill, checkpoint=checkpoint, scheme=scheme, found=found)
        mean, std = hints.get("mean", found.mean), hints.get("std", found.std)
        raise ClassifierError(checkpoint.path, Classifier(name, found.options, fill_it, mean, std))
    hinted = {name: hints[name] for name in _HINTED if name in hints}
    chosen = {**found.options, **hinted, **options}
    try:
        model = create_model(found.architecture, **chosen)
    except (AtrousError, TypeError) as error:
        raise WeightsError(f"{checkpoint.path}: {_named(scheme, found)}: {error}") from error
    _fill(model, checkpoint, scheme, found)
    single = model.num_classes == 1
    if single:
        model = _of_two_classes(model, create_model(found.architecture, **{**chosen, "num_classes": 2}))
    classes = "one class, told from the background" if single else f"{model.num_classes} classes"
    description = f"{_named(scheme, found)}, {classes}, output stride {model.output_stride}"
    return Converted(model.eval(), _card(checkpoint, found, model, description, single), description)


def export_state(model: SegmentationModel, project: str) -> dict[str, Tensor]:
    """A model's tensors as another project names and orders them; for timm those of its backbone.

    Raises:
        WeightsError: no such project, or one that has no such network.
    """
    if project not in SCHEMES:
        raise WeightsError(f"no project {project!r} is known here; there are {', '.join(SCHEMES)}")
    network = model.backbone if project == "timm" else model
    scheme = SCHEMES[project]
    layout = scheme.layout(network)
    state = {} if layout is None else give(network, layout)
    state = {name.removeprefix(scheme.prefix(network)): tensor for name, tensor in state.items()}
    if not _is_read_back(state, model, scheme):
        options = ", ".join(
            f"{key}={value!r}" for key, value in model.config.items() if key not in ("name", "num_classes")
        )
        raise WeightsError(
            f"{project} has no network like {model.config.get('name', type(model).__name__)} ({options})"
        )
    return state


def _is_read_back(state: Mapping[str, Tensor], model: SegmentationModel, scheme: Scheme) -> bool:
    """Whether another project's reader of these tensors has a network that computes the same.

    That is what would be recognised in them, but for what its users choose apart from the tensors.
    """
    try:
        recognised = recognise(state)
    except WeightsError:
        return False
    if recognised is None or recognised[0] is not scheme:
        return False
    found, config = recognised[1], model.config
    chosen = {name: config[name] for name in scheme.chosen if name in config}
    try:
        with torch.device("meta"):
            if found.backbone:
                # Its output stride is not the classifier's, and nothing that a classifier's file would tell.
                return _is_like(BACKBONES[found.architecture](**found.options), model.backbone, _STRIDE_AND_RATE)
            return _is_like(create_model(found.architecture, **{**found.options, **chosen}), model)
    except (AtrousError, TypeError):  # a form that there is not here
        return False


def _is_like(network: nn.Module, other: nn.Module, whatever: Sequence[str] = ()) -> bool:
    """Whether two networks have the same modules in the same places, with the same numbers in them, but for some."""
    modules, others = dict(network.named_modules()), dict(other.named_modules())
    return modules.keys() == others.keys() and all(
        type(module) is type(others[name]) and _numbers(module, whatever) == _numbers(others[name], whatever)
        for name, module in modules.items()
    )


def _numbers(module: nn.Module, whatever: Sequence[str]) -> dict[str, Any]:
    left_out = ("training", "momentum", *whatever)
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple) and not name.startswith("_") and name not in left_out
    }


def with_classes(card: ModelCard, classes: Classes) -> ModelCard:
    """The card with other class names: a data set's ("voc", "cityscapes", "ade20k") or as many as it has.

    Raises:
        WeightsError: their number is not the model's.
    """
    if isinstance(classes, str):
        names, palette = known_classes(classes)
    else:
        names, palette = tuple(classes), card.palette
    if len(names) != len(card.classes):
        raise WeightsError(f"classes: {len(names)} names for a model of {len(card.classes)} classes")
    return ModelCard(**{**vars(card), "classes": names, "palette": palette})


def _recognised(checkpoint: Checkpoint) -> tuple[Scheme, Found]:
    try:
        recognised = recognise(checkpoint.state)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path}: {error}") from error
    if recognised is None:
        names = list(checkpoint.state)
        raise WeightsError(
            f"{checkpoint.path}: {len(names)} tensors, {names[0]} the first, as no project known here names "
            f"them; known are {', '.join(SCHEMES)}"
        )
    return recognised


def _refuse_namesake(checkpoint: Checkpoint, found: Found) -> None:
    """Raises WeightsError where the file beside the tensors tells of a network that has the same names alone."""
    told = checkpoint.hints.get("network")
    backbone = found.architecture if found.backbone else backbone_of(found.architecture)
    if told is not None and not re.fullmatch(_ALIASES.get(backbone, re.escape(backbone)), told.removeprefix("tu-")):
        raise WeightsError(
            f"{checkpoint.path}: its config.json says {told}, whose tensors have the names of {backbone} here, but not "
            "all its layers"
        )


def _of_two_classes(model: SegmentationModel, wider: SegmentationModel) -> SegmentationModel:
    """A model of one class, which is there where the sigmoid of its logit is above a half, with a background of 0.

    The softmax of (0, z) is (1 - sigmoid(z), sigmoid(z)).
    """
    state = wider.state_dict()
    for name, tensor in model.state_dict().items():
        state[name] = tensor if tensor.shape == state[name].shape else torch.cat([torch.zeros_like(tensor), tensor])
    wider.load_state_dict(state)
    return wider


def _named(scheme: Scheme, found: Found) -> str:
    return f"{scheme.whose} {found.description}"


def _fill(network: nn.Module, checkpoint: Checkpoint, scheme: Scheme, found: Found) -> None:
    """Puts a checkpoint's tensors into the network, or backbone, that was recognised in it."""
    layout = scheme.layout(network)
    if layout is None:
        raise WeightsError(f"{checkpoint.path}: {_named(scheme, found)}, which this network is not")
    try:
        rename = by_prefix(found.renamed)
        state = {rename(name): tensor for name, tensor in checkpoint.state.items()}
        take(state, network, layout, found.unused)
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.path}: {_named(scheme, found)}, but {error}") from error


def _card(checkpoint: Checkpoint, found: Found, model: SegmentationModel, description: str, single: bool) -> ModelCard:
    values: dict[str, Any] = {"mean": found.mean, "std": found.std, "description": description}
    values["provenance"] = {"source": checkpoint.path.name}
    hints: Mapping[str, Any] = checkpoint.hints
    values |= {name: hints[name] for name in ("mean", "std") if name in hints}
    if single:
        values["classes"] = ("background", *hints.get("classes", ("foreground",)))[:2]
    elif len(hints.get("classes", ())) == model.num_classes:
        values |= {name: hints[name] for name in ("classes", "palette") if name in hints}
    return card_for(model.num_classes, **values)
