"""Google's quantised DeepLab v3 with MobileNetV2, and the classifier below it, from TFLite to float weights.

The files are those of google-coral/test_data, `deeplabv3_mnv2_pascal_quant.tflite` and `…_dm05_…`, trained with
fake quantisation (tensorflow/models, `research/deeplab/g3doc/quantize.md`). Every stored value q stands for
scale·(q - zero point), so the weights come out exactly. The rounding of the activations between the layers to 256
values goes into the card: a float network does without it, and labels a little differently at edges.

The graph is followed from its input, operator by operator, beside the network that is filled: a stride, a rate, an
activation or a connection that is not the same is a reason to refuse the file.
"""

import hashlib
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atrous.backbones.inverted_residual import MobileBackbone
from atrous.errors import WeightsError
from atrous.layers import ASPP, ConvNormAct, ImagePooling
from atrous.models import create_model
from atrous.models.deeplab_v3 import DeepLabV3
from atrous.weights.classes import card_for
from atrous.weights.converted import Classifier, ClassifierError, Converted
from atrous.weights.quantisation import Quantisation
from atrous.weights.schemes import Layout, take
from atrous.weights.tflite import flatbuffer as tflite
from atrous.weights.zoo import list_zoo

_BY_STEM_FILTERS = {32: ("deeplabv3_mobilenet_v2", "1"), 16: ("deeplabv3_mobilenet_v2_050", ".5")}
_SAME, _VALID = 0, 1
_ACTIVATIONS: dict[type, int] = {type(None): 0, nn.ReLU: 1, nn.ReLU6: 3}


def load_tflite(path: str | Path) -> Converted:
    """Google's DeepLab v3 MobileNetV2, width 1 or .5, as a float model that takes images of any size.

    The file has batch norm folded into its convolutions: the model's own does nothing, and its running statistics
    are not those of the training data.

    Raises:
        ClassifierError: Google's quantised MobileNetV2, which such a model began with.
        WeightsError: not a TFLite file, a damaged one, or another network; the message says which.
    """
    path = Path(path)
    graph = tflite.read_tflite(path)
    try:
        _check_ends(graph)
        if graph.operators[-1].name == "SOFTMAX":
            raise ClassifierError(path, _classifier(path, graph))
        _check_kind(graph)
        return _convert(graph, hashlib.sha256(path.read_bytes()).hexdigest())
    except _OtherNetworkError as refusal:
        raise WeightsError(f"{path}: not Google's quantised DeepLab v3 with MobileNetV2: {refusal}") from refusal


class _OtherNetworkError(Exception):
    """Why the graph is not the one that is known here."""


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise _OtherNetworkError(reason)


def _check_ends(graph: tflite.Graph) -> None:
    sealed = any(operator.name == "edgetpu-custom-op" for operator in graph.operators)
    _require(not sealed, "it is compiled for the Edge TPU, which seals the weights; take the file without _edgetpu")
    one_each = len(graph.inputs) == len(graph.outputs) == 1 and min(graph.inputs + graph.outputs) >= 0
    _require(one_each and bool(graph.operators), "it does not take one image to one result")
    image = graph.tensors[graph.inputs[0]]
    _require(image.dtype == np.uint8 and len(image.shape) == 4, "its input is no image of 8-bit values")


def _check_kind(graph: tflite.Graph) -> None:
    """Tells the networks that people are likely to try instead."""
    image, result = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    end = f"{graph.operators[-1].name} of shape {'×'.join(map(str, result.shape))}"
    _require(graph.operators[-1].name == "ARG_MAX", f"it ends in {end}, not in ARG_MAX, which labels pixels")
    _require("EdgeTPU" not in image.name, f"its input is called {image.name}, and there is no MobileNetEdgeTPU here")


def _convert(graph: tflite.Graph, digest: str) -> Converted:
    image = graph.inputs[0]
    architecture, width = _architecture(graph)
    model = cast(DeepLabV3, create_model(architecture, _class_count(graph), _output_stride(graph))).eval()
    walk = _Walk(graph)
    walk.results[model] = image
    features = _fill_backbone(walk, cast(MobileBackbone, model.backbone), image)
    projected = _fill_aspp(walk, model.aspp, features)
    walk.results[model.logits] = _fill_logits(walk, model.logits, projected)
    _follow_to_labels(walk, walk.results[model.logits], image)
    mean, std = _normalisation(graph.tensors[image])
    card = card_for(model.num_classes, mean=mean, std=std, **_origin(digest))
    card = replace(card, quantisation=_quantisation(walk, model))
    found = f"Google's quantised DeepLab v3 with MobileNetV2 of width {width}, {model.num_classes} classes, made float"
    return Converted(model, card, found)


def _classifier(path: Path, graph: tflite.Graph) -> Classifier:
    """MobileNetV2 up to its features; what names the photo is left."""
    image = graph.inputs[0]
    architecture, width = _architecture(graph)
    backbone = cast(MobileBackbone, create_model(architecture, 1, 32).backbone)
    _fill_backbone(_Walk(graph), backbone, image)
    found = f"Google's quantised MobileNetV2 of width {width}, an ImageNet classifier"

    def fill(other: nn.Module) -> None:
        try:
            take(backbone.state_dict(), other, Layout(str))
        except WeightsError as error:
            raise WeightsError(f"{path}: {found}, but {error}") from error

    return Classifier(found, {"variant": backbone.variant}, fill, *_normalisation(graph.tensors[image]))


def _normalisation(image: tflite.Tensor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """A byte b is scale·(b - zero_point) to the network; a model card speaks of b / 255."""
    mean, std = (image.zero_point[0] / 255).item(), (1 / (255 * _scale(image)[0])).item()
    return (mean,) * 3, (std,) * 3


def _quantisation(walk: "_Walk", model: nn.Module) -> Quantisation:
    """The steps of what was passed. The image's own come under the model's name, which is `INPUT`."""
    names = {module: name for name, module in model.named_modules()}
    activations = {names[module]: walk.tensors[value] for module, value in walk.results.items()}
    return Quantisation(
        {name: (_scale(tensor)[0].item(), int(tensor.zero_point[0])) for name, tensor in activations.items()},
        {names[conv]: tuple(_scale(walk.tensors[kernel]).tolist()) for conv, kernel in walk.kernels.items()},
    )


def _origin(digest: str) -> dict[str, Any]:
    """What a model card says of a published file, which its bytes tell; of others only which file it was."""
    for entry in list_zoo():
        if entry.sha256 == digest:
            origin = {"source": entry.source, "url": entry.url, "published": entry.score, "sha256": digest}
            description = "Google's quantised DeepLab v3 with MobileNetV2, its weights made float"
            return {"licence": entry.licence, "description": description, "provenance": origin}
    return {"provenance": {"sha256": digest}}


def _architecture(graph: tflite.Graph) -> tuple[str, str]:
    """The name here, and the width."""
    stems = [operator for operator in graph.operators if operator.inputs[:1] == graph.inputs]
    shape = graph.tensors[stems[0].inputs[1]].shape if stems and len(stems[0].inputs) > 1 else ()
    filters = shape[0] if shape else 0
    _require(filters in _BY_STEM_FILTERS, f"its stem has {filters} filters, where width 1 has 32 and width .5 has 16")
    return _BY_STEM_FILTERS[filters]


def _class_count(graph: tflite.Graph) -> int:
    values = graph.operators[-1].inputs
    shape = graph.tensors[values[0]].shape if values else ()
    _require(len(shape) == 4 and 1 <= shape[-1] <= 256, f"its labels are chosen from values of shape {shape}")
    return shape[-1]


def _output_stride(graph: tflite.Graph) -> int:
    stride = prod(operator.options.get("stride_w", 0) for operator in graph.operators if "CONV_2D" in operator.name)
    _require(stride in (8, 16, 32), "its strides do not come to 8, 16 or 32")
    return stride


class _Walk:
    """A way along the graph that passes each operator once, and what was found on it.

    Attributes:
        results: by module: the value that it computes.
        kernels: by convolution: its weights.
    """

    def __init__(self, graph: tflite.Graph) -> None:
        self.tensors = graph.tensors
        self.left = list(graph.operators)
        self.results: dict[nn.Module, int] = {}
        self.kernels: dict[nn.Module, int] = {}

    def take(self, name: str, *values: int, **options: int) -> tflite.Operator:
        """Passes the one operator `name` whose first inputs are `values`, in any order, and whose options are these."""
        found = [op for op in self.left if op.name == name and sorted(op.inputs[: len(values)]) == sorted(values)]
        what = f"{name} after {' and '.join(map(self.describe, values))}"
        _require(len(found) == 1, f"there are {len(found)} {what}, not one")
        operator = found[0]
        for option, value in options.items():
            there = operator.options.get(option)
            _require(there == value, f"{what} has {option}={there}, not {value}")
        _require(len(operator.outputs) == 1 and operator.outputs[0] >= 0, f"{what} has no single result")
        self.left.remove(operator)
        return operator

    def leads_to(self, name: str, value: int) -> bool:
        return any(operator.name == name and operator.inputs[:1] == (value,) for operator in self.left)

    def size(self, value: int) -> tuple[int, ...]:
        return self.tensors[value].shape[1:3]

    def describe(self, value: int) -> str:
        return self.tensors[value].name.split(";")[0] or f"value {value}"


def _fill_backbone(walk: _Walk, backbone: MobileBackbone, value: int) -> int:
    value = _fill_layer(walk, backbone.stem, value)
    for block in backbone.blocks:
        before = value
        for layer in (block.expand, block.depthwise, block.project):
            if layer is not None:
                value = _fill_layer(walk, cast(ConvNormAct, layer), value)
        if block.has_shortcut:
            value = walk.results[block] = walk.take("ADD", value, before, activation=0).outputs[0]
    return value


def _fill_aspp(walk: _Walk, aspp: ASPP, features: int) -> int:
    pointwise = _fill_layer(walk, aspp.pointwise, features)
    size = walk.size(features)
    _require(len(size) == 2, f"{walk.describe(features)} is no map of features")
    pool = walk.take("AVERAGE_POOL_2D", features, padding=_VALID, filter_h=size[0], filter_w=size[1], activation=0)
    pooled = _fill_layer(walk, cast(ImagePooling, aspp.image_pooling).project, pool.outputs[0])
    pooled = walk.take("RESIZE_BILINEAR", pooled).outputs[0]
    if walk.leads_to("QUANTIZE", pooled):  # to the other branch's scale: the same numbers
        pooled = walk.results[cast(ImagePooling, aspp.image_pooling)] = walk.take("QUANTIZE", pooled).outputs[0]
    concat = walk.take("CONCATENATION", pointwise, pooled, axis=3, activation=0)
    projected = _fill_layer(walk, aspp.project, concat.outputs[0])
    if concat.inputs[0] == pooled:  # the model has image pooling last
        weight = aspp.project.conv.weight
        weight.data = weight.data.roll(aspp.channels, dims=1)
    return projected


def _fill_logits(walk: _Walk, logits: nn.Conv2d, value: int) -> int:
    weight, bias, result = _convolution(walk, logits, value, None)
    logits.weight.data.copy_(weight)
    cast(Tensor, logits.bias).data.copy_(bias)
    return result


def _fill_layer(walk: _Walk, layer: ConvNormAct, value: int) -> int:
    """Convolution and folded batch norm: the model's own becomes the identity, to the last bit, and the bias."""
    norm, activation = cast(nn.BatchNorm2d, layer.bn), dict(layer.named_children()).get("act")
    weight, bias, result = _convolution(walk, layer.conv, value, activation)
    layer.conv.weight.data.copy_(weight)
    norm.bias.data.copy_(bias)
    norm.weight.data.fill_(1)
    cast(Tensor, norm.running_mean).fill_(0)
    cast(Tensor, norm.running_var).fill_(1 - norm.eps)
    walk.results[layer] = result
    return result


def _follow_to_labels(walk: _Walk, value: int, image: int) -> None:
    """From the logits: upsampled as the model does it, the largest taken, and no more."""
    while walk.leads_to("RESIZE_BILINEAR", value):
        resize = walk.take("RESIZE_BILINEAR", value)
        if walk.size(resize.outputs[0]) != walk.size(value):
            corners = resize.options.get("align_corners") == 1 and resize.options.get("half_pixel") == 0
            _require(corners, "its logits are not upsampled with aligned corners")
            _require(walk.size(resize.outputs[0]) == walk.size(image), "its labels do not have the image's size")
        value = resize.outputs[0]
    labels = walk.take("ARG_MAX", value)
    axis = walk.tensors[labels.inputs[-1]].data
    _require(axis is not None and axis.ravel().tolist() == [3], "its labels are not chosen among the classes")
    _require(not walk.left, f"it has {len(walk.left)} operators too many")


def _convolution(walk: _Walk, conv: nn.Conv2d, value: int, activation: nn.Module | None) -> tuple[Tensor, Tensor, int]:
    """The file's weight and bias for `conv`, as real numbers, and the value that it computes with them."""
    depthwise = conv.groups > 1
    (stride_h, stride_w), (rate_h, rate_w) = conv.stride, conv.dilation
    options = {"stride_h": stride_h, "stride_w": stride_w, "rate_h": rate_h, "rate_w": rate_w}
    name, own = ("DEPTHWISE_CONV_2D", {"multiplier": 1}) if depthwise else ("CONV_2D", {})
    operator = walk.take(name, value, padding=_SAME, activation=_ACTIVATIONS[type(activation)], **options, **own)
    _require(len(operator.inputs) == 3 and min(operator.inputs) >= 0, f"a {name} has no weight or no bias")
    source, weight, bias = (walk.tensors[index] for index in operator.inputs)
    walk.kernels[conv] = operator.inputs[1]
    _require(weight.dtype in (np.uint8, np.int8) and len(weight.shape) == 4, f"{weight.name} is no kernel of 8 bits")
    # The interpreter adds the bias to sums of products, whatever scale the bias itself is marked with.
    step = _scale(source) * _scale(weight)
    fits = bias.dtype == np.int32 and step.shape == bias.scale.shape and np.allclose(step, _scale(bias), rtol=1e-3)
    _require(fits, f"the bias {bias.name} is not in steps of its layer's products")
    kernel = _reals(weight, _scale(weight)).transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
    return (
        _fitting(kernel, conv.weight),
        _fitting(_reals(bias, step), torch.empty(conv.out_channels)),
        operator.outputs[0],
    )


def _scale(tensor: tflite.Tensor) -> NDArray[np.float64]:
    """One step, or one for each slice along the tensor's axis."""
    scale, axis = tensor.scale.astype(np.float64), tensor.axis
    slices = tensor.shape[axis] if 0 <= axis < len(tensor.shape) else 0
    fits = 0 < scale.size == tensor.zero_point.size and scale.size in {1, slices}
    _require(fits and bool((np.isfinite(scale) & (scale > 0)).all()), f"{tensor.name} is not quantised")
    return scale


def _reals(tensor: tflite.Tensor, scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """A constant's numbers, given its scale."""
    if tensor.data is None:
        raise _OtherNetworkError(f"the weights {tensor.name} are not stored in the file")
    shape = [-1 if axis == tensor.axis else 1 for axis in range(len(tensor.shape))] if scale.size > 1 else []
    steps = tensor.data.astype(np.float64) - tensor.zero_point.astype(np.float64).reshape(shape)
    return steps * scale.reshape(shape)


def _fitting(values: NDArray[np.float64], like: Tensor) -> Tensor:
    found, expected = tuple(values.shape), tuple(like.shape)
    _require(found == expected, f"a layer's weights have the shape {found}, not {expected}")
    tensor = torch.from_numpy(values).float()
    _require(bool(tensor.isfinite().all()), "a layer's weights are too large for float32")
    return tensor
