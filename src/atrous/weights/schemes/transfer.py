"""Moving tensors between a project's names and ours, every one of them accounted for."""

import torch
from torch import Tensor, nn

from atrous.errors import WeightsError
from atrous.weights.schemes.scheme import Layout, State

_COUNTER = "num_batches_tracked"  # batch norm's; only training with a cumulative average reads it


def take(state: State, network: nn.Module, layout: Layout, unused: tuple[str, ...] = ()) -> None:
    """Fills a network here with a project's tensors.

    Args:
        unused: beginnings of the names that may be left over.

    Raises:
        WeightsError: a tensor is missing, has another shape, or is left over; the message names it as the project does.
    """
    ours = network.state_dict()
    filled, used = {}, set()
    for name, tensor in ours.items():
        theirs = layout.name(name)
        used.add(theirs)
        if theirs not in state:
            if name.endswith(_COUNTER):
                continue
            raise WeightsError(f"it lacks {theirs}")
        given = state[theirs]
        if given.shape != tensor.shape:
            raise WeightsError(f"{theirs} has the shape {tuple(given.shape)}, not {tuple(tensor.shape)}")
        if name in layout.input_order:
            given = given.index_select(_input_axis(given), torch.as_tensor(layout.input_order[name]))
        filled[name] = given.to(tensor.dtype)
    for copy, theirs in layout.copies.items():
        used.add(copy)
        if copy in state and theirs in state and not torch.equal(state[copy], state[theirs]):
            raise WeightsError(f"{copy} is not equal to {theirs}, which it is a second name of")
    left = [name for name in state if name not in used and not name.startswith(unused) and not name.endswith(_COUNTER)]
    if left:
        raise WeightsError(f"it holds {left[0]}, which this network does not have ({len(left)} such in all)")
    network.load_state_dict(filled, strict=False)


def give(network: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """A network's tensors as the project names and orders them, in its state's order here."""
    state = {}
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        if name in layout.input_order:
            order = torch.as_tensor(layout.input_order[name])
            tensor = torch.empty_like(tensor).index_copy_(_input_axis(tensor), order, tensor)
        state[layout.name(name)] = tensor.contiguous()
    for copy, theirs in layout.copies.items():
        state[copy] = state[theirs].clone()
    return state


def _input_axis(weight: Tensor) -> int:
    """Where a convolution's weight counts its input channels; a depthwise one has a filter for each."""
    return 0 if weight.shape[1] == 1 else 1
