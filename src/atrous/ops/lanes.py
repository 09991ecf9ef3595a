"""Eight float32 numbers as one value in numba: a row of labels or pixels goes through the loops in such steps.

LLVM turns a loop over some 8 to 32 of them into vector instructions only where it can tell that no arrays overlap and
that the loop is long; these say it outright. Arrays are flat and contiguous, and so are places in them.
"""

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

from atrous.ops.compiled import njit
from atrous.ops.softmax_cpu import (
    EXP_P0,
    EXP_P1,
    EXP_P2,
    EXP_P3,
    EXP_P4,
    LN_2_HIGH,
    LN_2_LOW,
    LOG2_E,
)

LANES = 8

_I32 = ir.IntType(32)
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WHOLE = ir.VectorType(_I32, LANES)
_HALVES = ir.VectorType(ir.IntType(16), LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)
_MAY_FUSE = ("contract", "nsz")
_CACHE_LINE = 64  # bytes


class _Lanes(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name="float32x8")


lanes = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def zeros(count: int) -> NDArray[np.float32]:
    """A flat array that begins on a cache line: rows of eight then never lie across two."""
    room = np.zeros(count + _CACHE_LINE // 4, np.float32)
    first = -room.ctypes.data % _CACHE_LINE // 4
    return room[first : first + count]


def _pointer(context: Any, builder: Any, pointed: Any, kind: Any, array: Any, place: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), pointed.as_pointer())


def _whole(number: int) -> Any:
    return ir.Constant(_WHOLE, [number] * LANES)


@intrinsic  # type: ignore[untyped-decorator]
def load(_context: Any, array: Any, place: Any) -> Any:
    """The eight numbers of `array` from `place` on; those of a uint16 array are bfloat16."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if array.dtype != types.uint16:
            return builder.load(_pointer(context, builder, _VECTOR, array, *args), align=4)
        bits = builder.load(_pointer(context, builder, _HALVES, array, *args), align=2)
        return builder.bitcast(builder.shl(builder.zext(bits, _WHOLE), _whole(16)), _VECTOR)

    return lanes(array, types.intp), build


@intrinsic  # type: ignore[untyped-decorator]
def store(_context: Any, array: Any, place: Any, value: Any) -> Any:
    """Writes eight numbers to `array` from `place` on, to a uint16 array as the nearest bfloat16, ties to even."""
    return types.none(array, types.intp, lanes), partial(_write, past_caches=False)


@intrinsic  # type: ignore[untyped-decorator]
def store_past_caches(_context: Any, array: Any, place: Any, value: Any) -> Any:
    """The same straight to memory, which need not be read for it: for more than the caches hold.

    The place lies at a multiple of the eight numbers' size, in bytes.
    """
    return types.none(array, types.intp, lanes), partial(_write, past_caches=True)


def _write(context: Any, builder: Any, signature: Any, args: Any, past_caches: bool) -> Any:
    array, values = signature.args[0], args[2]
    halves = array.dtype == types.uint16
    if halves:
        bits = builder.bitcast(values, _WHOLE)
        odd = builder.and_(builder.lshr(bits, _whole(16)), _whole(1))
        rounded = builder.lshr(builder.add(bits, builder.add(odd, _whole(0x7FFF))), _whole(16))
        # A NaN's rounding may carry into its sign and end as a zero.
        is_nan = builder.fcmp_unordered("uno", values, values)
        values = builder.trunc(builder.select(is_nan, _whole(0x7FC0), rounded), _HALVES)
    size = array.dtype.bitwidth // 8
    pointer = _pointer(context, builder, _HALVES if halves else _VECTOR, array, *args[:2])
    written = builder.store(values, pointer, align=LANES * size if past_caches else size)
    if past_caches:
        written.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
    return context.get_dummy_value()


@intrinsic  # type: ignore[untyped-decorator]
def store_whole(_context: Any, array: Any, place: Any, value: Any) -> Any:
    """Writes eight whole numbers from 0 to 255 to a uint8 array from `place` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, _BYTES, signature.args[0], *args[:2])
        builder.store(builder.trunc(builder.fptosi(args[2], _WHOLE), _BYTES), pointer, align=1)
        return context.get_dummy_value()

    return types.none(array, types.intp, lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def fill(_context: Any, number: Any) -> Any:
    """One number eight times."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _broadcast(builder, args[0])

    return lanes(types.float32), build


def _broadcast(builder: Any, number: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(_I32, 0))
    zeros = ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _shuffled(builder: Any, value: Any, shift: int) -> Any:
    order = ir.Constant(ir.VectorType(_I32, LANES), [index ^ shift for index in range(LANES)])
    return builder.shuffle_vector(value, value, order)


@intrinsic  # type: ignore[untyped-decorator]
def add(_context: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda _c, builder, _s, args: builder.fadd(*args, flags=_MAY_FUSE)


@intrinsic  # type: ignore[untyped-decorator]
def subtract(_context: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda _c, builder, _s, args: builder.fsub(*args, flags=_MAY_FUSE)


@intrinsic  # type: ignore[untyped-decorator]
def multiply(_context: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda _c, builder, _s, args: builder.fmul(*args, flags=_MAY_FUSE)


def _larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@intrinsic  # type: ignore[untyped-decorator]
def maximum(_context: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda _c, builder, _s, args: _larger(builder, *args)


@intrinsic  # type: ignore[untyped-decorator]
def on_line(_context: Any, origin: Any, slope: Any, x: Any) -> Any:
    """origin + slope · x, each step rounded, whatever the processor."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        origin, slope, x = args
        return builder.fadd(origin, builder.fmul(slope, x))

    return lanes(lanes, lanes, lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def where_larger(_context: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """`then` where a > b, else `otherwise`."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        a, b, then, otherwise = args
        return builder.select(builder.fcmp_ordered(">", a, b), then, otherwise)

    return lanes(lanes, lanes, lanes, lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def clip(_context: Any, value: Any, low: Any, high: Any) -> Any:
    """`value` between `low` and `high`; NaN stays NaN."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value, low, high = args
        raised = builder.select(builder.fcmp_ordered("<", value, low), low, value)
        return builder.select(builder.fcmp_ordered(">", raised, high), high, raised)

    return lanes(lanes, lanes, lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def kept_between(_context: Any, value: Any, place: Any, low: Any, high: Any) -> Any:
    """`value` where `place` is more than `low` and less than `high`, or NaN; 0 elsewhere."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value, place, low, high = args
        outside = builder.or_(builder.fcmp_ordered("<=", place, low), builder.fcmp_ordered(">=", place, high))
        return builder.select(outside, ir.Constant(_VECTOR, [0.0] * LANES), value)

    return lanes(lanes, lanes, lanes, lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def total(_context: Any, a: Any) -> Any:
    """The sum of the eight, always in the same order."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value = args[0]
        for shift in (4, 2, 1):
            value = builder.fadd(value, _shuffled(builder, value, shift))
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return types.float32(lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def largest(_context: Any, a: Any) -> Any:
    """The largest of the eight."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value = args[0]
        for shift in (4, 2, 1):
            value = _larger(builder, value, _shuffled(builder, value, shift))
        return builder.extract_element(value, ir.Constant(_I32, 0))

    return types.float32(lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def _nearest(_context: Any, a: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{LANES}f32"), args)

    return lanes(lanes), build


@intrinsic  # type: ignore[untyped-decorator]
def _power_of_two(_context: Any, n: Any) -> Any:
    """2^n for whole n from -126 to 127: n goes where a number keeps its exponent."""

    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        exponent = builder.add(builder.fptosi(args[0], _WHOLE), _whole(127))
        return builder.bitcast(builder.shl(exponent, _whole(23)), _VECTOR)

    return lanes(lanes), build


@njit(inline="always")
def add_product(value, a, b):  # type: ignore[no-untyped-def]
    """value + a · b, rounded once where the processor can."""
    return add(value, multiply(a, b))


@intrinsic  # type: ignore[untyped-decorator]
def _zero_below(_context: Any, value: Any, x: Any, least: Any) -> Any:
    def build(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        value, x, least = args
        return builder.select(builder.fcmp_ordered("<", x, least), ir.Constant(_VECTOR, [0.0] * LANES), value)

    return lanes(lanes, lanes, lanes), build


@njit(inline="always")
def exp(x):  # type: ignore[no-untyped-def]
    """e^x for x <= 0, as `softmax_cpu.exp` has it; below -60 (1e-26) it is 0.

    Shares of it then stay clear of denormal numbers, which take a hundred times as long.
    """
    f = np.float32
    least = fill(f(-60))
    kept = maximum(x, least)
    n = _nearest(multiply(kept, fill(f(LOG2_E))))
    r = add_product(add_product(kept, n, fill(f(-LN_2_HIGH))), n, fill(f(-LN_2_LOW)))
    p = add_product(fill(f(EXP_P3)), fill(f(EXP_P4)), r)
    p = add_product(fill(f(EXP_P2)), p, r)
    p = add_product(fill(f(EXP_P1)), p, r)
    p = add_product(fill(f(EXP_P0)), p, r)
    value = multiply(add(add_product(r, multiply(p, r), r), fill(f(1))), _power_of_two(n))
    return _zero_below(value, x, least)
