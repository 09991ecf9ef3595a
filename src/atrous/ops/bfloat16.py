"""bfloat16 in numba, which does not know the type: arrays come as uint16 and numbers are float32."""

from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor


def as_numpy(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory as an array; bfloat16 as uint16."""
    tensor = tensor.detach()
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@intrinsic  # type: ignore[untyped-decorator]
def load(_context: Any, value: Any) -> Any:
    """A number from an array: uint16 is read as bfloat16, anything else stays as it is."""
    if value != types.uint16:
        return value(value), lambda _c, _b, _s, args: args[0]

    def widen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        bits = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(value), widen


@intrinsic  # type: ignore[untyped-decorator]
def store(_context: Any, value: Any, like: Any) -> Any:
    """`value` (float32) as the type of `like`: rounded to the nearest bfloat16, ties to even, for uint16."""
    if like != types.uint16:
        return value(value, like), lambda _c, _b, _s, args: args[0]

    def narrow(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        odd = builder.and_(builder.lshr(bits, ir.Constant(i32, 16)), ir.Constant(i32, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(i32, 0x7FFF)))
        return builder.trunc(builder.lshr(rounded, ir.Constant(i32, 16)), ir.IntType(16))

    return types.uint16(types.float32, like), narrow
