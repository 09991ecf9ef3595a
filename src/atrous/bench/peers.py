"""The projects that weights come from, run as their own documentation shows it, on this model's weights."""

from collections.abc import Callable
from typing import Any

import numpy as np

from atrous.bench.process import Run
from atrous.errors import AtrousError

_UNUSED = ("mobilenet_v2.conv_1x1.",)  # which transformers' network has and does not run


def torchvision(spec: dict[str, Any]) -> Run:
    """`torchvision.models.segmentation`, whose networks give a dictionary."""
    from torchvision.models import segmentation

    network = getattr(segmentation, spec["network"])(weights=None, weights_backbone=None, **spec["options"])
    return _eager(spec, network, lambda x: network(x)["out"])


def smp(spec: dict[str, Any]) -> Run:
    """`segmentation_models_pytorch.DeepLabV3` and `DeepLabV3Plus`."""
    import segmentation_models_pytorch

    network = getattr(segmentation_models_pytorch, spec["network"])(encoder_weights=None, **spec["options"])
    return _eager(spec, network, network)


def transformers(spec: dict[str, Any]) -> Run:
    """`MobileNetV2ForSemanticSegmentation`; its logits are coarse, and its processor resizes them as here."""
    from torch.nn.functional import interpolate
    from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation

    network = MobileNetV2ForSemanticSegmentation(MobileNetV2Config(**spec["options"]))

    def logits(x: Any) -> Any:
        return interpolate(network(x).logits, x.shape[-2:], mode="bilinear", align_corners=False)

    return _eager(spec, network, logits)


def litert(spec: dict[str, Any]) -> Run:
    """LiteRT's interpreter with XNNPACK on the TFLite file itself, a photo at a time: its shapes are fixed."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(spec["file"], num_threads=spec["threads"])
    interpreter.allocate_tensors()
    [entry], [result] = interpreter.get_input_details(), interpreter.get_output_details()
    height, width = (int(side) for side in entry["shape"][1:3])
    if [height, width] != spec["size"]:
        raise AtrousError(f"the file takes photos of {height}×{width} alone: give --size {height}x{width}")

    def label(photo: Any) -> Any:
        interpreter.set_tensor(entry["index"], photo[None])
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])[0]

    return lambda photos: [label(photo) for photo in photos]


def _eager(spec: dict[str, Any], network: Any, logits: Callable[[Any], Any]) -> Run:
    """Photos normalised by torch, the network in evaluation mode, the largest logit of each pixel."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(spec["threads"])
    missing, unexpected = network.load_state_dict(load_file(spec["state"]), strict=False)
    unlike = [*unexpected, *(name for name in missing if not name.startswith(_UNUSED))]
    if unlike:
        raise AtrousError(f"its network and the model are not the same: {unlike[0]}")
    network.eval().to(spec["device"])
    mean, std = (torch.tensor(spec[name], device=spec["device"])[:, None, None] for name in ("mean", "std"))

    def run(photos: list[Any]) -> list[Any]:
        with torch.inference_mode():
            x = torch.from_numpy(np.stack(photos)).to(spec["device"]).permute(0, 3, 1, 2).float()
            return list(logits((x / 255 - mean) / std).argmax(1).cpu().numpy())

    return run
