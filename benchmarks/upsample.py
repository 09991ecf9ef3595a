"""The fused ends of the network against torch's separate steps: labels, and the loss with its gradient.

    python benchmarks/upsample.py

Labels: of noise, in which every cell has several classes, and of smooth logits with regions, as a network gives them.
"""

import argparse
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.ops import upsample_argmax, upsample_cross_entropy
from compare import by_turns, line
from record import record

LABELS = (((33, 33), 21, (513, 513)), ((65, 129), 19, (1025, 2049)))


def labels(coarse: tuple[int, int], classes: int, size: tuple[int, int], smooth: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, classes, *coarse, generator=generator)
    if smooth:
        logits = F.interpolate(torch.randn(1, classes, 6, 8, generator=generator), coarse, mode="bicubic")
    # The network's convolutions leave channels last.
    logits = logits.contiguous(memory_format=torch.channels_last)

    def plain() -> Tensor:
        return F.interpolate(logits, size, mode="bilinear", align_corners=True).argmax(1)

    measured: dict[str, Any] = by_turns(lambda: upsample_argmax(logits, size), plain)
    differ = (upsample_argmax(logits, size) != plain()).sum().item()
    return {**measured, "pixels_that_differ": differ}


def loss(batch: int, classes: int, coarse: int, size: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, coarse, coarse, generator=generator)
    logits = logits.contiguous(memory_format=torch.channels_last).requires_grad_()
    target = torch.randint(0, classes, (batch, size, size), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.05] = 255

    def step(ours: bool) -> Tensor:
        logits.grad = None
        if ours:
            value = upsample_cross_entropy(logits, target)
        else:
            full = F.interpolate(logits, (size, size), mode="bilinear", align_corners=True)
            value = F.cross_entropy(full, target, ignore_index=255)
        value.backward()
        assert logits.grad is not None
        return logits.grad

    measured: dict[str, Any] = by_turns(lambda: step(True), lambda: step(False), 5)
    ours, theirs = step(True).clone(), step(False).clone()
    memory = [peak_memory(lambda kind=kind: step(kind)) for kind in (True, False)]  # type: ignore[misc]
    return {
        **measured,
        "gradients_differ": float((ours - theirs).norm() / theirs.norm()),
        "ours_peak_mb": round(memory[0] / 1e6, 1),
        "theirs_peak_mb": round(memory[1] / 1e6, 1),
        "times_less_memory": round(memory[1] / memory[0], 1),
    }


def peak_memory(call: Any) -> int:
    """The most bytes of tensors that were there at once beyond those before, as torch's profiler counts them."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    measured = {}
    for coarse, classes, size in LABELS:
        for smooth in (False, True):
            name = f"labels {coarse[0]}×{coarse[1]}×{classes} to {size[0]}×{size[1]}, {'smooth' if smooth else 'noise'}"
            measured[name] = labels(coarse, classes, size, smooth)
            print(line(name, measured[name], "torch"))
    name = "loss and gradient 16×21, 129×129 to 513×513"
    measured[name] = loss(16, 21, 129, 513)
    print(line(name, measured[name], "torch"), f"in {measured[name]['times_less_memory']} times less memory")
    print(record("upsample", {"command": "python benchmarks/upsample.py", **measured}))


if __name__ == "__main__":
    main()
