"""A training step of DeepLab v3 on ResNet-50: ours against torchvision's network in the same loop.

    python benchmarks/training_step.py

Its own architecture on both sides, 321×321 crops, a batch of 4, bfloat16 autocast, channels last, SGD with momentum.
Ours upsamples inside the loss; torchvision's forward gives full-size logits, for torch's cross-entropy.
"""

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous import create_model
from atrous.ops import upsample_cross_entropy
from compare import by_turns, line
from peers import import_peer
from record import record

SIZE, BATCH, CLASSES = 321, 4, 21


def theirs(output_stride: int) -> nn.Module:
    tv = import_peer("torchvision")
    dilated = [False, output_stride == 8, True]
    backbone = tv.models.resnet50(weights=None, replace_stride_with_dilation=dilated)
    from torchvision.models.segmentation.deeplabv3 import _deeplabv3_resnet

    return _deeplabv3_resnet(backbone, CLASSES, aux=None)  # type: ignore[no-any-return]


def step(network: nn.Module, ours: bool, images: Tensor, target: Tensor) -> Any:
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            out = network.coarse_logits(images) if ours else network(images)["out"]  # type: ignore[operator]
        if ours:
            loss = upsample_cross_entropy(out, target, align_corners=network.align_corners)  # type: ignore[arg-type]
        else:
            loss = F.cross_entropy(out.float(), target, ignore_index=255)
        loss.backward()
        optimizer.step()

    return run


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, CLASSES, (BATCH, SIZE, SIZE))
    measured: dict[str, Any] = {"command": "python benchmarks/training_step.py"}
    for output_stride in (16, 8):
        ours = step(create_model("torchvision_deeplabv3_resnet50", CLASSES, output_stride), True, images, target)
        other = step(theirs(output_stride), False, images, target)
        name = f"v3 ResNet-50, {SIZE}×{SIZE}, batch {BATCH}, bf16, output stride {output_stride}"
        measured[name] = by_turns(ours, other, 3)
        print(line(name, measured[name], "torchvision"))
    print(record("training_step", measured))


if __name__ == "__main__":
    main()
