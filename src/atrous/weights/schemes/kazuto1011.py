"""kazuto1011's `deeplab-pytorch`: v2 on ResNet-101 (the published files), v3 and v3+.

Images are BGR in 0..255 there, less a mean: the first convolution's channels are turned round, and the rest is said by
`MEAN` and `STD`. The project's networks stand in a multi-scale wrapper (MSC), with their names behind `base.`; a file
without that is read as one at a single scale.
"""

from typing import Any

from torch import nn

from atrous.backbones.resnet import Bottleneck, ResNet
from atrous.errors import WeightsError
from atrous.models import KazutoDeepLabV2, KazutoDeepLabV3, KazutoDeepLabV3Plus, MultiScale
from atrous.weights.schemes.scheme import Found, Layout, Scheme, State, by_prefix

MEAN = (122.675 / 255, 116.669 / 255, 104.008 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)
SCALES = (0.5, 0.75, 1.0)
_BGR = (2, 1, 0)
_UNITS = 23  # of a ResNet-101's third block, there `layer4`
_ASPP = {
    "aspp.pointwise": "aspp.stages.c0",
    **{f"aspp.atrous.{index}": f"aspp.stages.c{index + 1}" for index in range(3)},
    "aspp.image_pooling.project": "aspp.stages.imagepool.conv",
    "aspp.project": "fc1",
}


def recognise(state: State) -> Found | None:
    base = "base." if "base.layer1.conv1.conv.weight" in state else ""
    if f"{base}layer1.conv1.conv.weight" not in state or f"{base}layer2.block1.reduce.conv.weight" not in state:
        return None
    units = sum(name.startswith(f"{base}layer4.") and name.endswith(".reduce.conv.weight") for name in state)
    if units != _UNITS:
        raise WeightsError(f"a ResNet with {units} units in layer4; its networks here have a ResNet-101 (23)")
    if f"{base}aspp.c3.bias" in state and f"{base}aspp.c4.bias" not in state:
        version, last, untold = "V2", "aspp.c0.weight", "rates"
    elif f"{base}fc2.weight" in state and f"{base}aspp.stages.c0.conv.weight" in state:
        version, last, untold = "V3", "fc2.weight", "output stride"
    elif f"{base}fc2.conv3.weight" in state and f"{base}aspp.stages.c0.conv.weight" in state:
        version, last, untold = "V3Plus", "fc2.conv3.weight", "output stride"
    else:
        raise WeightsError("a ResNet-101 without the head of its DeepLab v2, v3 or v3+")
    options: dict[str, Any] = {"num_classes": len(state[f"{base}{last}"])}
    if base:
        options["multi_scale"] = SCALES
    renamed = {} if base else {"": "base"}
    name = f"DeepLab{version}_ResNet101{'_MSC' if base else ''}"
    description = f"{name} (its {untold}{' and scales' if base else ''} as published, not told by the file)"
    architecture = f"kazuto1011_deeplab{version.lower()}_resnet101"
    return Found(architecture, options, description, mean=MEAN, std=STD, renamed=renamed)


def layout(network: nn.Module) -> Layout | None:
    single = network.single if isinstance(network, MultiScale) else network
    if isinstance(single, KazutoDeepLabV2):
        head = {f"aspp.{index}": f"aspp.c{index}" for index in range(len(single.aspp))}
    elif isinstance(single, KazutoDeepLabV3):
        head = {**_ASPP, "logits": "fc2"}
    elif isinstance(single, KazutoDeepLabV3Plus):
        fuse = {f"decoder.fuse.{index}": f"fc2.conv{index + 1}" for index in range(2)}
        head = {**_ASPP, **fuse, "decoder.low_level": "reduce", "logits": "fc2.conv3"}
    else:
        return None
    assert isinstance(single.backbone, ResNet)
    names = {**head, **_resnet_names(single.backbone)}
    return Layout(
        by_prefix({ours: f"base.{theirs}" for ours, theirs in names.items()}), {"backbone.conv1.weight": _BGR}
    )


def _resnet_names(resnet: ResNet) -> dict[str, str]:
    names = {"backbone.conv1": "layer1.conv1.conv", "backbone.bn1": "layer1.conv1.bn"}
    for name, module in resnet.named_modules():
        if not isinstance(module, Bottleneck):
            continue
        layer, unit = (int(number) for number in name.removeprefix("layer").split("."))
        ours, theirs = f"backbone.{name}", f"layer{layer + 1}.block{unit + 1}"
        for index, part in enumerate(("reduce", "conv3x3", "increase"), 1):
            names |= {f"{ours}.conv{index}": f"{theirs}.{part}.conv", f"{ours}.bn{index}": f"{theirs}.{part}.bn"}
        names |= {f"{ours}.downsample.{i}": f"{theirs}.shortcut.{part}" for i, part in enumerate(("conv", "bn"))}
    return names


def _prefix(network: nn.Module) -> str:
    return "" if isinstance(network, MultiScale) else "base."


_CHOSEN = ("output_stride", "aspp_rates", "multi_grid")
SCHEME = Scheme("kazuto1011", recognise, layout, _prefix, _CHOSEN)
