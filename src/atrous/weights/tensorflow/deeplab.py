"""DeepLab checkpoints of TensorFlow's own code (tensorflow/models, `research/deeplab`), such as its model zoo's.

Each of our `ConvNormAct` layers is a scope of slim's there: `<scope>/weights` (height, width, in, out) or
`<scope>/depthwise_weights` (height, width, channels, 1), and `<scope>/BatchNorm/{gamma,beta,moving_mean,
moving_variance}`. The scopes are named in `core/xception.py`, slim's `nets/mobilenet` and `model.py`.

What a checkpoint does not hold is taken to be what that code does unless told otherwise: ASPP's rates (6, 12, 18 at
output stride 16), no multi-grid, no bound on Xception's activations. Inputs are scaled to [-1, 1].
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from atrous.errors import AtrousError, WeightsError
from atrous.layers import ConvNormAct
from atrous.models import SegmentationModel, create_model
from atrous.weights.classes import card_for
from atrous.weights.converted import Converted
from atrous.weights.tensorflow.bundle import Checkpoint, read_checkpoint

Shape = tuple[int, ...]

_LOGITS = "logits/semantic"
_ASPP_CHANNELS = 256
_AVERAGE = "/ExponentialMovingAverage"
_TRAINING = {"global_step", "beta1_power", "beta2_power"}
_BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

_ENTRY_FLOWS = {"xception_41": 3, "xception_65": 3, "xception_71": 5}  # modules, and in the middle flow:
_MIDDLE_FLOWS = {"xception_41": 8, "xception_65": 16, "xception_71": 16}
_MOBILENET = "MobilenetV2"
_MOBILENETS = {32: "mobilenet_v2", 16: "mobilenet_v2_050"}  # by the first layer's channels

# Networks that are known by a name in them and cannot be carried over.
_REFUSED = {
    r"_CHECKPOINTABLE_OBJECT_GRAPH": "holds Keras objects, as TensorFlow 2 code such as DeepLab2 saves them: only "
    "tensorflow/models' research/deeplab is known here",
    r"MobilenetV3/|MobilenetEdgeTPU/": "a MobileNetV3 or EdgeTPU network, whose small head Atrous does not have",
    r"meta_architecture/|dense_prediction_cell/|(.*/)?branch\d+(_|/)": "has a dense prediction cell (DPC) in place of "
    "ASPP, whose structure stands in a file of its own, and which Atrous does not have",
    r"[ph]nasnet/": "an architecture found by search (PNASNet, Auto-DeepLab), which Atrous does not have",
    r".*_quant/": "was trained with simulated quantisation, which a float network does not reproduce",
    r"resnet_v1_": "a ResNet, whose max pooling TensorFlow pads unlike Atrous where a size is even",
    r".*/xception_module/separable_conv\d/": "an Xception without batch norm between depthwise and pointwise "
    "convolutions (regularize_depthwise), where Atrous' has it",
}


def load_tensorflow(
    path: str | Path, *, output_stride: int | None = None, aspp_rates: Sequence[int] | None = None, **unknown: Any
) -> Converted:
    """Loads a DeepLab v3 or v3+ checkpoint on MobileNetV2 (width 1 or .5) or Xception-41, -65 or -71.

    Every variable of the network must find its place here, and every place its variable. What an optimizer left is
    not read, nor are moving averages, but for variables that are there in no other form.

    Args:
        path: as for `read_checkpoint`.
        output_stride: the weights fit any; 16 if not given.
        aspp_rates: for a checkpoint whose ASPP has other than three atrous branches, or not the paper's rates.
            Without it the paper's are taken, and follow the output stride.

    Raises:
        WeightsError: no such checkpoint, an impossible option, or a network that cannot be carried over faithfully;
            the message says why.
    """
    if unknown:
        raise WeightsError(f"{path}: a TensorFlow checkpoint takes output_stride and aspp_rates, not {min(unknown)}")
    checkpoint = read_checkpoint(path)
    entries = _network_entries(checkpoint)
    shapes = {variable: checkpoint.shape(entry) for variable, entry in entries.items()}
    try:
        root, name, options = _recognise(shapes, aspp_rates)
        model = create_model(name, _channels(shapes, _LOGITS), output_stride, **options)
        places = _places(model, root)
        _check(name, shapes, places, model)
    except AtrousError as error:
        raise WeightsError(f"{checkpoint.index}: {error}") from error
    state = {}
    for key, variable in places.items():
        value = torch.from_numpy(checkpoint[entries[variable]]).permute(_axes(variable))
        if key == "aspp.project.conv.weight" and options["image_pooling"]:
            value = value.roll(-_ASPP_CHANNELS, 1)  # image pooling is concatenated first there, last here
        state[key] = value
    model.load_state_dict(state, strict=False)  # but for batch norm's counters all is there, as _check has seen
    averaged = sum(entry.endswith(_AVERAGE) for entry in entries.values())
    found = f"TensorFlow's DeepLab, {name}, {model.num_classes} classes"
    if averaged:
        found += f", {averaged} of {len(entries)} variables from their moving averages"
    card = card_for(model.num_classes, provenance={"source": f"tensorflow/models deeplab, {checkpoint.index.stem}"})
    return Converted(model.eval(), card, found)


def _network_entries(checkpoint: Checkpoint) -> dict[str, str]:
    """The network's variables, and under which name each one's value stands.

    A variable's slots (momentum, moving average) are named as if they lay within it.
    """
    entries = {
        name: name
        for name in checkpoint
        if name not in _TRAINING and not name.endswith(_AVERAGE) and name.rpartition("/")[0] not in checkpoint
    }
    for name in checkpoint:
        if name.endswith(_AVERAGE):
            entries.setdefault(name.removesuffix(_AVERAGE), name)
    return entries


def _recognise(shapes: Mapping[str, Shape], aspp_rates: Sequence[int] | None) -> tuple[str, str, dict[str, Any]]:
    """The backbone's scope, our architecture's name and its options."""
    for pattern, reason in _REFUSED.items():
        if any(re.match(pattern, name) for name in shapes):
            raise WeightsError(reason)
    roots = {name.split("/")[0] for name in shapes} & {_MOBILENET, *_ENTRY_FLOWS}
    if len(roots) != 1:
        known = ", ".join((_MOBILENET, *_ENTRY_FLOWS))
        raise WeightsError(f"has {'several' if roots else 'none'} of the backbones that are known here: {known}")
    root = roots.pop()
    if f"{_LOGITS}/weights" not in shapes:
        raise WeightsError(f"has no segmentation head ({_LOGITS}): a classifier, or a network for another task")
    if not all(f"{scope}/weights" in shapes for scope in ("aspp0", "concat_projection")):
        raise WeightsError("has no ASPP with batch norm (aspp0, concat_projection)")
    if any(name.startswith("logits/") and not name.startswith(f"{_LOGITS}/") for name in shapes):
        raise WeightsError("has heads beside the semantic one (panoptic or multi-task), which Atrous does not have")
    width = _channels(shapes, "aspp0")
    if width != _ASPP_CHANNELS:
        raise WeightsError(f"its ASPP has {width} channels, Atrous' {_ASPP_CHANNELS}")
    has_decoder = any(name.startswith("decoder/") for name in shapes)
    return root, _name(shapes, root, has_decoder), _head_options(shapes, has_decoder, aspp_rates)


def _channels(shapes: Mapping[str, Shape], scope: str) -> int:
    """How many channels a convolution gives; 0 if there is none."""
    return (0, *shapes.get(f"{scope}/weights", ()))[-1]


def _name(shapes: Mapping[str, Shape], root: str, has_decoder: bool) -> str:
    backbone = root.replace("_", "")
    if root == _MOBILENET:
        channels = _channels(shapes, f"{root}/Conv")
        if channels not in _MOBILENETS:
            raise WeightsError(
                f"a MobileNetV2 that begins with {channels} channels: there are widths 1 (32) and .5 (16)"
            )
        backbone = _MOBILENETS[channels]
    return f"deeplabv3{'plus' if has_decoder else ''}_{backbone}"


def _head_options(shapes: Mapping[str, Shape], has_decoder: bool, aspp_rates: Sequence[int] | None) -> dict[str, Any]:
    """The arguments of `create_model` for ASPP and decoder."""
    scopes = {name.rpartition("/")[0] for name in shapes}
    branches = {int(found[1]) for found in (re.match(r"aspp([1-9]\d?)(_|$)", scope) for scope in scopes) if found}
    split = {scope.endswith("_depthwise") for scope in scopes if re.fullmatch(r"aspp[1-9]\d?(_depthwise)?", scope)}
    if has_decoder:
        split.add("decoder/decoder_conv0_depthwise" in scopes)
    if len(split) > 1:
        raise WeightsError(
            "only some of its 3×3 convolutions in ASPP and decoder are separable: Atrous has all or none"
        )
    if aspp_rates is None and len(branches) not in (0, 3):
        raise WeightsError(
            f"its ASPP has {len(branches)} atrous branches, whose rates it does not say: give aspp_rates"
        )
    if aspp_rates is not None and len(aspp_rates) != len(branches):
        raise WeightsError(f"its ASPP has {len(branches)} atrous branches, and aspp_rates={tuple(aspp_rates)}")
    return {
        "aspp_rates": aspp_rates if branches else (),
        "image_pooling": "image_pooling" in scopes,
        "separable": True in split,
    }


def _places(model: SegmentationModel, root: str) -> dict[str, str]:
    """For each entry of our state dict the variable that goes there."""
    modules = dict(model.named_modules())
    places = {"logits.weight": f"{_LOGITS}/weights", "logits.bias": f"{_LOGITS}/biases"}
    for layer, scope in {**_backbone_scopes(root), **_head_scopes()}.items():
        module = modules.get(layer)
        if isinstance(module, ConvNormAct):
            depthwise = "depthwise_" if module.conv.groups > 1 else ""
            places[f"{layer}.conv.weight"] = f"{scope}/{depthwise}weights"
            places |= {f"{layer}.bn.{ours}": f"{scope}/BatchNorm/{theirs}" for ours, theirs in _BATCH_NORM.items()}
    return places


def _backbone_scopes(root: str) -> dict[str, str]:
    """The scope of each layer that a backbone may have."""
    if root == _MOBILENET:
        blocks = [f"{root}/expanded_conv{f'_{index}' if index else ''}" for index in range(17)]
        parts = ("expand", "depthwise", "project")
        scopes = {f"backbone.blocks.{n}.{part}": f"{block}/{part}" for n, block in enumerate(blocks) for part in parts}
        return {"backbone.stem": f"{root}/Conv", **scopes}
    modules = [f"entry_flow/block{index + 1}/unit_1" for index in range(_ENTRY_FLOWS[root])]
    modules += [f"middle_flow/block1/unit_{index + 1}" for index in range(_MIDDLE_FLOWS[root])]
    modules += ["exit_flow/block1/unit_1", "exit_flow/block2/unit_1"]
    scopes = {f"backbone.stem.{index}": f"{root}/entry_flow/conv1_{index + 1}" for index in range(2)}
    for n, name in enumerate(modules):
        module = f"{root}/{name}/xception_module"
        scopes[f"backbone.blocks.{n}.shortcut"] = f"{module}/shortcut"
        for index in range(3):
            for part in ("depthwise", "pointwise"):
                scopes[f"backbone.blocks.{n}.stack.{index}.{part}"] = f"{module}/separable_conv{index + 1}_{part}"
    return scopes


def _head_scopes() -> dict[str, str]:
    """The scope of each layer that ASPP and decoder may have, separable or not."""
    scopes = {
        "aspp.image_pooling.project": "image_pooling",
        "aspp.pointwise": "aspp0",
        "aspp.project": "concat_projection",
        "decoder.low_level": "decoder/feature_projection0",
    }
    convolutions = {f"aspp.atrous.{index}": f"aspp{index + 1}" for index in range(99)}
    convolutions |= {f"decoder.fuse.{index}": f"decoder/decoder_conv{index}" for index in range(2)}
    for layer, scope in convolutions.items():
        scopes[layer] = scope
        scopes |= {f"{layer}.{part}": f"{scope}_{part}" for part in ("depthwise", "pointwise")}
    plain = {f"decoder.fuse.{index}": f"decoder/decoder_conv0/decoder_conv0_{index + 1}" for index in range(2)}
    return scopes | plain  # slim's `repeat` nests the names


def _check(name: str, shapes: Mapping[str, Shape], places: Mapping[str, str], model: SegmentationModel) -> None:
    """That the checkpoint's variables and our parameters are the same ones, in the same shapes."""
    missing, unknown = sorted(set(places.values()) - set(shapes)), sorted(set(shapes) - set(places.values()))
    if missing:
        raise WeightsError(f"lacks {missing[0]}, which {name} needs ({len(missing)} missing in all)")
    if unknown:
        raise WeightsError(f"holds {unknown[0]}, which {name} has no place for ({len(unknown)} in all)")
    for key, parameter in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        variable = places[key]
        axes = _axes(variable)
        wanted = tuple(parameter.shape[axes.index(axis)] for axis in range(len(axes)))
        if shapes[variable] != wanted:
            raise WeightsError(f"{variable} has the shape {shapes[variable]}, not {wanted} as {name} needs")


def _axes(variable: str) -> tuple[int, ...]:
    """Which axis of a variable each of our parameter's is."""
    if variable.endswith("/depthwise_weights"):
        return 2, 3, 0, 1
    return (3, 2, 0, 1) if variable.endswith("/weights") else (0,)
