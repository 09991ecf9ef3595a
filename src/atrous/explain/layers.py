"""The outputs of a network's layers, by name."""

import difflib
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models import SegmentationModel


def outputs_of(model: nn.Module, x: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """The maps that the layers give for an input, in the order of `layers`.

    A layer that is only a name for what it holds, as ResNet's blocks may be, gives the output of the last module in it
    that runs; of a layer that runs several times, it is the last output.

    Args:
        x: N×C×H×W, normalised.
        layers: names as in `named_modules`; "" is the coarse logits, or the output of a model of another kind.

    Raises:
        AtrousError: a layer that the model does not have or does not run.
    """
    wanted = list(dict.fromkeys(layers))
    modules = dict(model.named_modules())
    for name in wanted:
        if name not in modules:
            near = difflib.get_close_matches(name, modules, 3, 0.4) or [name for name, _ in model.named_children()]
            raise AtrousError(f"the model has no layer {name!r}; it has {', '.join(near)}: print(model) shows all")
    own: dict[str, Tensor] = {}
    within: dict[str, Tensor] = {}
    hooks = []
    for name in filter(None, wanted):
        for module in modules[name].modules():
            found = own if module is modules[name] else within
            hooks.append(module.register_forward_hook(_noting(found, name)))
    try:
        output = model.coarse_logits(x) if isinstance(model, SegmentationModel) else model(x)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = {**within, **own, "": _tensor(output)}
    for name in wanted:
        if name not in outputs:
            raise AtrousError(f"layer {name!r} does not run when the model predicts: choose another")
    return {name: outputs[name] for name in wanted}


def _noting(found: dict[str, Tensor], name: str) -> Any:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        # Cloned, because an activation behind it may work in place.
        found[name] = _tensor(output).clone()

    return note


def _tensor(output: Any) -> Tensor:
    """The map among what a layer gives: a backbone's last, or the first of several."""
    while not isinstance(output, Tensor):
        output = output.output if hasattr(output, "output") else output[0]
    return output
