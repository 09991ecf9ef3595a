"""Our convolutions at a rate against torch's, by turns in one process.

    python benchmarks/atrous_conv.py [--turns 15] [--threads 2] [--quick]

Torch is taken in whichever memory layout it is quicker. `chosen` is what `atrous_conv2d` does by itself, `products` is
the matrix products over the valid taps whatever the rule says. "train" is forward and backward.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.ops import atrous_conv, atrous_conv2d, depthwise_conv2d
from record import record

# batch, channels, output channels, side, rate
ASPP = [(1, 2048, 256, 65, rate) for rate in (12, 24, 36)] + [(1, 2048, 256, 33, rate) for rate in (6, 12, 18)]
BACKBONE = [(1, 512, 512, 33, 2), (1, 512, 512, 65, 4), (1, 256, 256, 65, 2)]
TRAINED = [(4, 2048, 256, 41, rate) for rate in (12, 24, 36)] + [(4, 2048, 256, 21, rate) for rate in (6, 12, 18)]
TRAINED += [(4, 512, 512, 41, 4), (4, 512, 512, 21, 2)]
DEPTHWISE = [(728, 33, 2), (960, 33, 2)] + [(2048, 33, rate) for rate in (6, 12, 18)]
DEPTHWISE += [(2048, 65, rate) for rate in (12, 24, 36)]
Convolve = Callable[[Tensor, Tensor], Tensor]


def medians(rivals: dict[str, Callable[[], object]], turns: int) -> dict[str, dict[str, float]]:
    """Milliseconds, median and least, of each rival, who take turns."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for rival in rivals.values():
        rival()
    for _ in range(turns):
        for name, rival in rivals.items():
            begun = time.perf_counter()
            rival()
            taken[name].append(1000 * (time.perf_counter() - begun))
    return {
        name: {"median": round(statistics.median(times), 2), "least": round(min(times), 2)}
        for name, times in taken.items()
    }


def channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def trained(convolve: Convolve, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], object]:
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    return lambda: torch.autograd.grad(convolve(x, weight), (x, weight), grad)


def dense(problem: tuple[int, int, int, int, int], dtype: torch.dtype, train: bool, turns: int) -> dict[str, Any]:
    batch, channels, out_channels, side, rate = problem
    tensors = [
        torch.randn(batch, channels, side, side).to(dtype),
        torch.randn(out_channels, channels, 3, 3).mul(0.01).to(dtype),
        torch.randn(batch, out_channels, side, side).to(dtype),
    ]
    last = [channels_last(tensor) for tensor in tensors]
    every = atrous_conv.Ours(True, True, True)

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, 1, rate, rate)

    def chosen(x: Tensor, weight: Tensor) -> Tensor:
        return atrous_conv2d(x, weight, rate=rate)

    def products(x: Tensor, weight: Tensor) -> Tensor:
        return atrous_conv._AtrousConv2d.apply(x, weight, None, rate, every)

    rivals: dict[str, Callable[[], object]] = {}
    for name, convolve, (x, weight, grad) in (
        ("torch", theirs, tensors),
        ("torch channels last", theirs, last),
        ("chosen", chosen, last),
        ("products", products, last),
    ):
        rivals[name] = trained(convolve, x, weight, grad) if train else lambda c=convolve, x=x, w=weight: c(x, w)
    with torch.set_grad_enabled(train):
        return {"shape": problem, "dtype": str(dtype), "train": train, **compared(medians(rivals, turns))}


def depthwise(channels: int, side: int, rate: int, dtype: torch.dtype, turns: int) -> dict[str, Any]:
    x = channels_last(torch.randn(1, channels, side, side).to(dtype))
    weight = torch.randn(channels, 1, 3, 3).to(dtype)
    rivals: dict[str, Callable[[], object]] = {
        "torch": lambda: F.conv2d(x, weight, None, 1, rate, rate, channels),
        "chosen": lambda: depthwise_conv2d(x, weight, 1, rate, rate),
    }
    with torch.no_grad():
        return {"depthwise": (channels, side, rate), "dtype": str(dtype), **compared(medians(rivals, turns))}


def compared(times: dict[str, dict[str, float]]) -> dict[str, Any]:
    """With how many times as long torch's better layout takes as what is chosen."""
    theirs = [found for name, found in times.items() if name.startswith("torch")]
    ratios = {
        kind: round(min(found[kind] for found in theirs) / times["chosen"][kind], 2) for kind in ("median", "least")
    }
    return {"milliseconds": times, "times_as_quick": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only the claims about ASPP in bfloat16; records nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    results = []
    for dtype in (torch.bfloat16,) if arguments.quick else (torch.bfloat16, torch.float32):
        problems = [(problem, False) for problem in (ASPP if arguments.quick else ASPP + BACKBONE)]
        problems += [] if arguments.quick else [(problem, True) for problem in TRAINED]
        for problem, train in problems:
            results.append(dense(problem, dtype, train, arguments.turns))
            print(line(results[-1]), flush=True)
        for problem in [] if arguments.quick else DEPTHWISE:
            results.append(depthwise(*problem, dtype, arguments.turns))
            print(line(results[-1]), flush=True)
    if not arguments.quick:
        print(record("atrous_conv", {"command": "python benchmarks/atrous_conv.py", "results": results}))


def line(result: dict[str, Any]) -> str:
    kind = "depthwise" if "depthwise" in result else "train" if result["train"] else "forward"
    times = ", ".join(
        f"{name} {found['median']:.1f} ({found['least']:.1f})" for name, found in result["milliseconds"].items()
    )
    shape, ratio = result.get("shape") or result["depthwise"], result["times_as_quick"]
    return f"{kind} {shape} {result['dtype'][6:]}: {times} ms; {ratio['median']} × ({ratio['least']} ×)"


if __name__ == "__main__":
    main()
