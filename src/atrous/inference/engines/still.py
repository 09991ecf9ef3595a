"""A model as it stands now, and whether it still does."""

import copy

import torch
from torch import nn

from atrous.models import SegmentationModel


def still(model: SegmentationModel) -> SegmentationModel:
    """A copy on the CPU, in float32 and evaluation mode, that later changes to the model do not reach."""
    with torch.inference_mode(False), torch.no_grad():
        return copy.deepcopy(model).to("cpu", torch.float32, memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload,no-any-return]


def state_of(model: SegmentationModel) -> tuple[object, ...]:
    """Equal as long as the model computes the same: its modules, their tensors' versions, strides, rates and the like.

    Torch counts the changes to a tensor, but not those made through its `.data`.
    """
    state: list[object] = [model.output_stride]
    modules: list[nn.Module | None] = [model]
    while modules:  # asked before every photo: `model.modules()` takes as long as all of this
        module = modules.pop()
        if module is None:
            continue
        own = module.__dict__  # asking a module for an attribute that it lacks takes a hundred times as long
        modules.extend(own["_modules"].values())
        # Flat: hundreds of small tuples a photo would keep the garbage collector at work.
        state += id(module), own.get("stride"), own.get("dilation"), own.get("rate"), own.get("eps")
        state.append(own.get("align_corners"))
        for tensor in (*own["_parameters"].values(), *own["_buffers"].values()):
            if tensor is not None:
                state += tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
    return tuple(state)
