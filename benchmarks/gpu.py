"""On a GPU: the Triton kernels against torch's separate steps, eager and compiled; whole training steps; convolutions.

    python benchmarks/gpu.py [--skip-steps]

Each kernel is first held to its reference, and the script ends with 1 where one differs by more than rounding. Medians
of turns in one process, between events on the GPU; memory is what a call takes beyond what was there before. Without
a GPU it ends with 2.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous import create_model
from atrous.ops import Taps, View, average_views, upsample_argmax, upsample_cross_entropy, valid_taps
from atrous.ops.average import reference_average
from atrous.ops.triton_here import takes_triton
from atrous.ops.upsample import reference_argmax, reference_cross_entropy
from record import record

DEVICE = "cuda"
# batch, classes, coarse size, size
LABELS = [(1, 21, (33, 33), (513, 513)), (16, 21, (33, 33), (513, 513)), (1, 19, (65, 129), (1025, 2049))]
LOSSES = [(16, 21, (33, 33), (513, 513)), (16, 21, (129, 129), (513, 513)), (8, 19, (49, 49), (769, 769))]
VIEWS = (1, 21, (513, 513), [(17, 17), (25, 25), (33, 33), (41, 41), (49, 49), (57, 57)])
# batch, channels, output channels, side, rate
CONVOLUTIONS = [(16, 2048, 256, 33, rate) for rate in (6, 12, 18)]
CONVOLUTIONS += [(16, 2048, 256, 65, rate) for rate in (12, 24, 36)]
CONVOLUTIONS += [(16, 512, 512, 33, 2), (16, 512, 512, 65, 4)]
STEP = ("deeplabv3_resnet101", 21, 16, 513, 16)  # architecture, classes, output stride, side, batch

Rivals = dict[str, Callable[[], object]]


def compared(rivals: Rivals, turns: int = 15, calls: int = 10) -> dict[str, Any]:
    """Milliseconds and peak MB of each rival, of which the first is ours, and how many times faster that is."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    peaks = {}
    for name, rival in rivals.items():
        rival()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        rival()
        peaks[name] = round((torch.cuda.max_memory_allocated() - before) / 1e6, 1)
    for _ in range(turns):
        for name, rival in rivals.items():
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begun.record()
            for _ in range(calls):
                rival()
            ended.record()
            ended.synchronize()
            taken[name].append(begun.elapsed_time(ended) / calls)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    ours, *others = rivals
    return {
        "milliseconds": {name: round(median, 4) for name, median in medians.items()},
        "peak_mb": peaks,
        "times_faster": {name: round(medians[name] / medians[ours], 2) for name in others},
    }


def line(name: str, found: dict[str, Any]) -> str:
    rivals = (
        f"{rival} {taken:.3f} ms ({found['peak_mb'][rival]:.0f} MB)" for rival, taken in found["milliseconds"].items()
    )
    return f"{name}: {', '.join(rivals)}"


def channels_last(tensor: Tensor) -> Tensor:
    # The network's convolutions leave channels last.
    return tensor.contiguous(memory_format=torch.channels_last)


def labels(problem: tuple[int, int, tuple[int, int], tuple[int, int]]) -> dict[str, Any]:
    batch, classes, coarse, size = problem
    logits = channels_last(torch.randn(batch, classes, *coarse, device=DEVICE))

    def plain(logits: Tensor) -> Tensor:
        return F.interpolate(logits, size, mode="bilinear", align_corners=True).argmax(1)

    compiled = torch.compile(plain, dynamic=False)
    differ = int((upsample_argmax(logits, size) != reference_argmax(logits, size)).sum())
    measured = compared(
        {
            "ours": lambda: upsample_argmax(logits, size),
            "torch": lambda: plain(logits),
            "torch compiled": lambda: compiled(logits),
        }
    )
    return {**measured, "pixels_that_differ": differ, "equal": differ == 0}


def loss(problem: tuple[int, int, tuple[int, int], tuple[int, int]], dtype: torch.dtype) -> dict[str, Any]:
    batch, classes, coarse, size = problem
    logits = channels_last(torch.randn(batch, classes, *coarse, device=DEVICE).to(dtype)).requires_grad_()
    target = torch.randint(0, classes, (batch, *size), device=DEVICE)
    target[torch.rand(target.shape, device=DEVICE) < 0.05] = 255

    def plain(logits: Tensor, target: Tensor) -> Tensor:
        full = F.interpolate(logits.float(), size, mode="bilinear", align_corners=True)
        return F.cross_entropy(full, target, ignore_index=255)

    compiled = torch.compile(plain, dynamic=False)

    def gradient(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], Tensor]:
        return lambda: torch.autograd.grad(function(logits, target), logits)[0]

    wide = logits.detach()[:2].double().requires_grad_()
    (exact,) = torch.autograd.grad(reference_cross_entropy(wide, target[:2]), wide)
    few = logits.detach()[:2].requires_grad_()
    (found,) = torch.autograd.grad(upsample_cross_entropy(few, target[:2]), few)
    differ = float((found - exact).norm() / exact.norm())
    rivals: Rivals = {
        "ours": gradient(upsample_cross_entropy),
        "torch": gradient(plain),
        "torch compiled": gradient(compiled),
    }
    limit = 1e-4 if dtype == torch.float32 else 5e-3
    return {**compared(rivals), "gradients_differ": differ, "equal": differ < limit}


def views() -> dict[str, Any]:
    """Six scales and their mirrored views, with the classes' scores."""
    batch, classes, size, sides = VIEWS
    groups = []
    for h, w in sides:
        rows, columns = taps(size[0], h), taps(size[1], w)
        mirrored = Taps(*(each.flip(0) for each in columns))
        pair = (torch.randn(batch, classes, h, w, device=DEVICE) for _ in range(2))
        groups.append([View(logits, rows, along) for logits, along in zip(pair, (columns, mirrored), strict=True)])

    def plain() -> Tensor:
        return torch.cat([mean for _, mean in reference_average(groups)], 2)

    _, means = average_views(groups, scores=True)
    assert means is not None
    differ = float((means - plain()).abs().max())
    rivals: Rivals = {"ours": lambda: average_views(groups, scores=True), "torch": plain}
    return {**compared(rivals, calls=3), "means_differ": differ, "equal": differ < 1e-5}


def taps(size: int, coarse: int) -> Taps:
    position = torch.linspace(0, coarse - 1, size, dtype=torch.float64)
    lower = position.floor().long().clamp(max=coarse - 1)
    upper = (lower + 1).clamp(max=coarse - 1)
    return Taps(*(each.to(DEVICE) for each in (lower, upper, (position - lower).float())))


def convolution(problem: tuple[int, int, int, int, int]) -> dict[str, dict[str, Any]]:
    """Output and gradients in bfloat16, channels last: our kernel, plain torch over the valid taps, and torch's own."""
    from atrous.ops import atrous_conv_cuda

    batch, channels, out_channels, side, rate = problem
    x = channels_last(torch.randn(batch, channels, side, side, device=DEVICE).bfloat16())
    weight = channels_last((torch.randn(out_channels, channels, 3, 3, device=DEVICE) * 0.01).bfloat16())
    grad = channels_last(torch.randn(batch, out_channels, side, side, device=DEVICE).bfloat16())
    x_map, grad_map = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    mirrored, dtype = weight.transpose(0, 1), torch.bfloat16

    def theirs(which: list[bool], some: slice = slice(None), dtype: torch.dtype = dtype) -> Any:
        sides = [1, 1], [rate, rate], [rate, rate], False, [0, 0], 1
        given = (each.to(dtype) for each in (grad[some], x[some], weight))
        return torch.ops.aten.convolution_backward(*given, None, *sides, which)

    found = {
        "output": compared(
            {
                "kernel": lambda: atrous_conv_cuda.convolve(x_map, weight, None, rate),
                "products": lambda: valid_taps.convolve(x_map, weight, None, rate, dtype),
                "torch": lambda: F.conv2d(x, weight, None, 1, rate, rate),
            },
            calls=3,
        ),
        "input's gradient": compared(
            {
                "kernel": lambda: atrous_conv_cuda.convolve(grad_map, mirrored, None, -rate),
                "products": lambda: valid_taps.convolve(grad_map, mirrored, None, -rate, dtype),
                "torch": lambda: theirs([True, False, False]),
            },
            calls=3,
        ),
        "weight's gradient": compared(
            {
                "products": lambda: valid_taps.weight_gradient(grad_map, x_map, (3, 3), rate, dtype),
                "torch": lambda: theirs([False, True, False]),
            },
            calls=3,
        ),
    }
    one = slice(0, 1)
    grad_x, grad_weight, _ = theirs([True, True, False], one, torch.float32)
    pairs = {
        "output": (
            atrous_conv_cuda.convolve(x_map[one], weight, None, rate).permute(0, 3, 1, 2),
            F.conv2d(x[one].float(), weight.float(), None, 1, rate, rate),
        ),
        "input's gradient": (
            atrous_conv_cuda.convolve(grad_map[one], mirrored, None, -rate).permute(0, 3, 1, 2),
            grad_x,
        ),
        "weight's gradient": (
            valid_taps.weight_gradient(grad_map[one], x_map[one], (3, 3), rate, dtype),
            grad_weight,
        ),
    }
    for name, (ours, exact) in pairs.items():
        differ = float((ours - exact).norm() / exact.norm())
        found[name] |= {"differ": differ, "equal": differ < 1e-2}
    return found


def steps() -> dict[str, Any]:
    """A training step, bfloat16 autocast, channels last, SGD: the fused loss against torch's on full-size logits."""
    name, classes, output_stride, side, batch = STEP
    network = create_model(name, classes, output_stride).to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    images = channels_last(torch.randn(batch, 3, side, side, device=DEVICE))
    target = torch.randint(0, classes, (batch, side, side), device=DEVICE)

    def plain(logits: Tensor, target: Tensor) -> Tensor:
        full = F.interpolate(logits.float(), target.shape[1:], mode="bilinear", align_corners=network.align_corners)
        return F.cross_entropy(full, target, ignore_index=255)

    def fused(logits: Tensor, target: Tensor) -> Tensor:
        return upsample_cross_entropy(logits, target, align_corners=network.align_corners)

    def step(forward: Callable[[Tensor], Tensor], criterion: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad()
            with torch.autocast(DEVICE, torch.bfloat16):
                logits = forward(images)
            criterion(logits, target).backward()
            optimizer.step()

        return run

    compiled = torch.compile(network.coarse_logits)
    pair = {"ours": step(network.coarse_logits, fused), "torch": step(network.coarse_logits, plain)}
    found = {"eager": compared(pair, 5, 2)}
    pair = {"ours": step(compiled, torch.compile(fused)), "torch": step(compiled, torch.compile(plain))}
    found["compiled"] = compared(pair, 5, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-steps", action="store_true", help="without the training steps, the longest part")
    arguments = parser.parse_args()
    if not torch.cuda.is_available() or not takes_triton(torch.zeros(1, device=DEVICE)):
        print("no GPU here that Triton works on: nothing was measured", file=sys.stderr)
        sys.exit(2)
    torch.manual_seed(0)
    measured: dict[str, Any] = {}

    def keep(name: str, found: dict[str, Any]) -> None:
        torch.compiler.reset()  # or it counts how often it has seen the functions, and gives up
        measured[name] = found
        wrong = "" if found.get("equal", True) else "  DIFFERS FROM THE REFERENCE"
        print(line(name, found) + wrong, flush=True)

    for problem in LABELS:
        keep(f"labels {shape(problem)}", labels(problem))
    for problem in LOSSES:
        for dtype in (torch.float32, torch.bfloat16):
            keep(f"loss and gradient {shape(problem)} {str(dtype)[6:]}", loss(problem, dtype))
    keep(f"mean over 12 views to {VIEWS[2][0]}×{VIEWS[2][1]}×{VIEWS[1]}", views())
    for convolved in CONVOLUTIONS:
        batch, channels, out_channels, side, rate = convolved
        for kind, found in convolution(convolved).items():
            keep(f"convolution {batch}×{channels}→{out_channels}, {side}×{side}, rate {rate}, {kind}", found)
    if not arguments.skip_steps:
        name, _, output_stride, side, batch = STEP
        for kind, found in steps().items():
            keep(f"training step {name}, output stride {output_stride}, {side}×{side}, batch {batch}, {kind}", found)
    import triton

    gpu = {"name": torch.cuda.get_device_name(), "cuda": torch.version.cuda, "triton": triton.__version__}
    print(record("gpu", {"command": "python benchmarks/gpu.py", "gpu": gpu, **measured}, gpu["name"]))
    sys.exit(any(not found.get("equal", True) for found in measured.values()))


def shape(problem: tuple[int, int, tuple[int, int], tuple[int, int]]) -> str:
    batch, classes, coarse, size = problem
    return f"{batch}×{classes}, {coarse[0]}×{coarse[1]} to {size[0]}×{size[1]}"


if __name__ == "__main__":
    main()
