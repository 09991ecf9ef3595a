"""Other projects' checkpoints to models here, and back."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from atrous.classes import known_classes
from atrous.errors import AtrousError, WeightsError
from atrous.models import SegmentationModel, create_model
from atrous.weights.card import ModelCard
from atrous.weights.checkpoint import Checkpoint, read_checkpoint_file
from atrous.weights.classes import card_for
from atrous.weights.converted import Classifier, ClassifierError, Converted
from atrous.weights.schemes import SCHEMES, Found, Scheme, give, recognise, take
from atrous.weights.schemes.scheme import by_prefix

Classes = str | Sequence[str]
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
    if found.backbone:
        name = _named(scheme, found)
        fill_it = partial(_fill, checkpoint=checkpoint, scheme=scheme, found=found)
        raise ClassifierError(checkpoint.path, Classifier(name, found.options, fill_it, found.mean, found.std))
    hinted = {name: checkpoint.hints[name] for name in _HINTED if name in checkpoint.hints}
    try:
        model = create_model(found.architecture, **{**found.options, **hinted, **options})
    except (AtrousError, TypeError) as error:
        raise WeightsError(f"{checkpoint.path}: {_named(scheme, found)}: {error}") from error
    _fill(model, checkpoint, scheme, found)
    description = f"{_named(scheme, found)}, {model.num_classes} classes, output stride {model.output_stride}"
    return Converted(model.eval(), _card(checkpoint, found, model, description), description)


def export_state(model: SegmentationModel, project: str) -> dict[str, Tensor]:
    """A model's tensors as another project names and orders them; for timm those of its backbone.

    Raises:
        WeightsError: no such project, or one that has no such network.
    """
    if project not in SCHEMES:
        raise WeightsError(f"no project {project!r} is known here; there are {', '.join(SCHEMES)}")
    network = model.backbone if project == "timm" else model
    layout = SCHEMES[project].layout(network)
    if layout is None:
        raise WeightsError(f"{project} has no network like {model.config.get('name', type(model).__name__)}")
    return give(network, layout)


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


def _card(checkpoint: Checkpoint, found: Found, model: SegmentationModel, description: str) -> ModelCard:
    values: dict[str, Any] = {"mean": found.mean, "std": found.std, "description": description}
    values["provenance"] = {"source": checkpoint.path.name}
    hints: Mapping[str, Any] = checkpoint.hints
    values |= {name: hints[name] for name in ("mean", "std") if name in hints}
    if len(hints.get("classes", ())) == model.num_classes:
        values |= {name: hints[name] for name in ("classes", "palette") if name in hints}
    return card_for(model.num_classes, **values)
