"""What depends on what in a network: its own layers, strides, rates and paddings, but no weight that could cancel.

The network is copied with every kernel a positive average over one channel and without batch norm. Where an input is
positive and tiny, every activation is then a straight line, and the gradient of an output is above zero for exactly
those pixels of which it depends. Maximum pooling, whose gradient would name one pixel of a window, becomes an average;
resizing keeps only what has a weight beyond rounding.
"""

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atrous.errors import AtrousError
from atrous.explain.layers import outputs_of

_INPUT = 1e-30
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_OVER_THE_MAP = (nn.GroupNorm, nn.InstanceNorm2d)
_ROUNDING = 1e-9
_BREADTH = 129


class Dependence:
    """A network's copy that answers on which pixels of an image a position of a layer depends.

    Args:
        model: takes N×3×H×W.
    """

    def __init__(self, model: nn.Module) -> None:
        # The weights are shared, not copied: those that matter here are replaced.
        shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._model = copy.deepcopy(model, shared).eval()
        for module in self._model.modules():
            _make_positive(module)

    def on(
        self, layers: Iterable[str], size: tuple[int, int], position: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """The pixels that one position of each layer's map depends on.

        Args:
            layers: names as in `named_modules`; "" is the coarse logits, or the model's own output.
            size: (height, width) of the image.
            position: (row, column) on the layer's map; its centre if not given.

        Returns:
            H×W booleans for each layer.

        Raises:
            AtrousError: a layer that the model does not have or does not run.
        """
        image, outputs = self._run(layers, size)
        found = {}
        for name, output in outputs.items():
            row, column = (output.shape[-2] // 2, output.shape[-1] // 2) if position is None else position
            (gradient,) = torch.autograd.grad(output[..., row, column].sum(), image, retain_graph=True)
            found[name] = gradient[0, 0] > 0
        return found

    def strides(self, layers: Iterable[str]) -> dict[str, int]:
        """How many pixels of an image each layer's positions are apart."""
        side = 1025  # long enough that what padding adds does not count
        _, outputs = self._run(layers, (side, _BREADTH))
        return {name: round((side - 1) / max(output.shape[-2] - 1, 1)) for name, output in outputs.items()}

    def _run(self, layers: Iterable[str], size: tuple[int, int]) -> tuple[Tensor, dict[str, Tensor]]:
        image = torch.full((1, 1, *size), _INPUT, dtype=torch.float64, requires_grad=True)
        with _Averages():
            outputs = outputs_of(self._model, image, layers)
        for name, output in outputs.items():
            if output.dim() != 4:
                raise AtrousError(f"layer {name!r} gives {tuple(output.shape)}, no N×C×H×W map: take one before it")
        return image, outputs


def _make_positive(module: Any) -> None:
    # `kind` rather than the module itself: what is assigned here is not what the classes declare.
    kind = type(module)
    if issubclass(kind, _CONVOLUTIONS):
        kernel = torch.ones(1, 1, *module.kernel_size, dtype=torch.float64)
        module.weight = nn.Parameter(kernel / kernel.numel(), requires_grad=False)
        module.bias, module.groups, module.in_channels, module.out_channels = None, 1, 1, 1
        module.register_forward_pre_hook(lambda _, given: (given[0].mean(1, keepdim=True), *given[1:]))
    elif issubclass(kind, nn.Linear):
        module.weight = nn.Parameter(torch.ones(1, 1, dtype=torch.float64), requires_grad=False)
        module.bias = None
        module.register_forward_pre_hook(lambda _, given: (given[0].mean(-1, keepdim=True),))
    elif issubclass(kind, _OVER_THE_MAP):
        module.forward = lambda x: x + x.mean((-2, -1), keepdim=True)
    elif issubclass(kind, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
        module.forward = lambda x: x


class _Averages(TorchFunctionMode):
    """Averages in place of maxima, and resizing without what rounding leaves of a weight that is zero."""

    def __torch_function__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("max_pool2d", "_max_pool2d"):
            return _average_pool(*args, **kwargs)
        if name in ("adaptive_max_pool2d", "_adaptive_max_pool2d"):
            return F.adaptive_avg_pool2d(*args[:2], **{"output_size": kwargs["output_size"]} if len(args) < 2 else {})
        if name == "interpolate":
            return _resize(*args, **kwargs)
        return func(*args, **kwargs)


def _average_pool(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    kernel, pads, spread = _pair(kernel_size), _pair(padding), _pair(dilation)
    steps = _pair(stride) if stride else kernel
    size = F.max_pool2d(x.detach(), kernel_size, stride, padding, dilation, ceil_mode).shape[-2:]
    ends = [
        max((out - 1) * step + rate * (side - 1) + 1 - have - pad, 0)
        for out, step, rate, side, have, pad in zip(size, steps, spread, kernel, x.shape[-2:], pads, strict=True)
    ]
    padded = F.pad(x.clamp(min=0), (pads[1], ends[1], pads[0], ends[0]))  # a padding may be minus infinity
    ones = torch.full((x.shape[1], 1, *kernel), 1 / (kernel[0] * kernel[1]), dtype=x.dtype)
    pooled = F.conv2d(padded, ones, stride=tuple(steps), dilation=tuple(spread), groups=x.shape[1])
    return pooled[..., : size[0], : size[1]]


def _resize(
    x: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: Any = None, **_: Any
) -> Tensor:
    for axis in (0, 1):
        eye = torch.eye(x.shape[2 + axis], dtype=x.dtype)[None, :, :, None]
        if size is not None:
            weights = F.interpolate(eye, (_pair(size)[axis], 1), mode=mode, align_corners=align_corners)
        else:
            factor = (_pair(scale_factor)[axis], 1.0)
            weights = F.interpolate(eye, scale_factor=factor, mode=mode, align_corners=align_corners)
        matrix = weights[0, :, :, 0].abs()
        matrix = matrix * (matrix > _ROUNDING)
        x = torch.einsum("nchw,ho->ncow" if axis == 0 else "nchw,wo->ncho", x, matrix)
    return x


def _pair(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, (int, float)) else (value[0], value[1])
