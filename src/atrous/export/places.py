"""Where a network is rounded to 8 bits: whatever goes into a convolution, each tensor once."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atrous.inference.engines.graph import example
from atrous.models import SegmentationModel
from atrous.weights.quantisation import INPUT


@dataclass(frozen=True)
class Places:
    """Names of modules.

    Attributes:
        results: of modules whose result is rounded; INPUT for what the network is given.
        inputs: of modules whose input is rounded, since no single module gives it: a concatenation, say.
    """

    results: tuple[str, ...]
    inputs: tuple[str, ...]


def places(model: SegmentationModel) -> Places:
    """Where `model` is to be rounded, as seen on a run.

    A tensor is rounded where it is made, so that a shortcut beside a convolution takes it rounded too: it need then be
    kept in 8 bits alone. Max pooling takes the largest of rounded numbers, which is the largest rounded.

    Args:
        model: on the CPU, without batch norm, which a module's result would stand in front of.
    """
    run = _Run(model)
    found = dict.fromkeys(run.place(module, given) for module, given in run.given if isinstance(module, nn.Conv2d))
    results, inputs = ([name for is_result, name in found if is_result is kind] for kind in (True, False))
    return Places(tuple(results), tuple(inputs))


class _Run:
    """One run of a model: which module was given which tensor, and which gave it.

    Attributes:
        given: the convolutions and max poolings, each with its input.
    """

    def __init__(self, model: SegmentationModel) -> None:
        self.given: list[tuple[nn.Module, Tensor]] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._givers: dict[int, nn.Module] = {}  # by the tensor; the outermost, where one module's result is another's
        self._results: list[Tensor] = []  # held, so that no address is used again
        self._calls: Counter[nn.Module] = Counter()
        hooks = []
        for module in model.modules():
            hooks.append(module.register_forward_hook(self._note_result))
            if isinstance(module, nn.Conv2d | nn.MaxPool2d):
                hooks.append(module.register_forward_pre_hook(self._note_input))
        self._x = example(model)
        with torch.inference_mode():
            model.coarse_logits(self._x)
        for hook in hooks:
            hook.remove()

    def place(self, module: nn.Module, given: Tensor) -> tuple[bool, str]:
        """Where the input of a module is rounded: whether at a module's result, and that module's name or its own."""
        if given is self._x:
            return True, INPUT
        giver = self._givers.get(id(given))
        if isinstance(giver, nn.MaxPool2d):
            return self.place(giver, next(taken for taker, taken in self.given if taker is giver))
        if giver is None or self._calls[giver] > 1:  # of one that is used again and again each result has its own range
            return False, self._names[module]
        return True, self._names[giver]

    def _note_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.given.append((module, inputs[0]))

    def _note_result(self, module: nn.Module, _: Any, result: Any) -> None:
        self._calls[module] += 1
        first = result[0] if type(result) is tuple else result  # not of a backbone's, which names its maps
        if isinstance(first, Tensor):
            self._results.append(first)
            self._givers[id(first)] = module
