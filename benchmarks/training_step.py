"""A training step of DeepLab v3 on ResNet-50: ours against torchvision's network in the same loop.

    python benchmarks/training_step.py

Its own architecture on both sides, 321×321 crops, a batch of 4, channels last, SGD with momentum; in bfloat16 autocast
and in float32, of which `precision: auto` takes the quicker one. Ours upsamples inside the loss; torchvision's forward
gives full-size logits, for torch's cross-entropy. Both sides' allocator is as their users have it: `atrous train`'s for
ours, glibc's default for theirs; each measured step comes after three that are not, in which memory settles.
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous import create_model
from atrous.ops import keep_freed_memory, upsample_cross_entropy
from compare import as_glibc_is, by_turns, line
from peers import import_peer
from record import record

SIZE, BATCH, CLASSES = 321, 4, 21
SETTLING = 3


def theirs(output_stride: int) -> nn.Module:
    tv = import_peer("torchvision")
    dilated = [False, output_stride == 8, True]
    backbone = tv.models.resnet50(weights=None, replace_stride_with_dilation=dilated)
    from torchvision.models.segmentation.deeplabv3 import _deeplabv3_resnet

    return _deeplabv3_resnet(backbone, CLASSES, aux=None)  # type: ignore[no-any-return]


def step(network: nn.Module, ours: bool, images: Tensor, target: Tensor, half: bool) -> Callable[[], None]:
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = network.coarse_logits(images) if ours else network(images)["out"]  # type: ignore[operator]
        if ours:
            loss = upsample_cross_entropy(out, target, align_corners=network.align_corners)  # type: ignore[arg-type]
        else:
            loss = F.cross_entropy(out.float(), target, ignore_index=255)
        loss.backward()
        optimizer.step()

    return run


def settle(run: Callable[[], None], allocator: Callable[[], None]) -> Callable[[], None]:
    """Steps in which memory comes to what the allocator makes of it, as in the course of a training."""

    def settled() -> None:
        allocator()
        for _ in range(SETTLING):
            run()

    return settled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    images = torch.randn(BATCH, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, CLASSES, (BATCH, SIZE, SIZE))
    measured: dict[str, Any] = {"command": "python benchmarks/training_step.py"}
    for output_stride in (16, 8):
        networks = create_model("torchvision_deeplabv3_resnet50", CLASSES, output_stride), theirs(output_stride)
        for half in (True, False):
            ours, other = (step(network, network is networks[0], images, target, half) for network in networks)
            kind = "bf16" if half else "fp32"
            name = f"v3 ResNet-50, {SIZE}×{SIZE}, batch {BATCH}, {kind}, output stride {output_stride}"
            settled = settle(ours, keep_freed_memory), settle(other, as_glibc_is)
            measured[name] = by_turns(ours, other, given.turns, warm=settled, before=settled)
            print(line(name, measured[name], "torchvision"), flush=True)
    print(record("training_step", measured))


if __name__ == "__main__":
    main()
