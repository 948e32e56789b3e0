"""Eight numbers that stay in registers: what numba's loops lack to run at the speed of vector instructions.

LLVM does not vectorise the short rows of a Gaussian's patch by itself. These functions, and + and * of what they give,
say it outright inside compiled code; on every processor LLVM splits the eight into the registers there are. Numba does
not see that compiled code it keeps depends on this file: after a change here, change what imports it too.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

WIDTH = 8
_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_INDEX = ir.IntType(32)


class Lanes(types.Type):
    """Numba's type of eight numbers of one precision."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")

    @property
    def vector(self) -> ir.VectorType:
        """The type in LLVM's terms."""
        return ir.VectorType(_LLVM[self.dtype], WIDTH)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, fe_type.vector)


def _pointer(context, builder, lanes, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), lanes.vector.as_pointer())


def _repeat(builder, lanes, number):
    undefined = ir.Constant(lanes.vector, ir.Undefined)
    first = builder.insert_element(undefined, number, _INDEX(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, WIDTH), [0] * WIDTH))


@intrinsic
def load(typing, array, index):
    """Eight consecutive numbers of a contiguous array from a flat index on; nothing checks its end."""
    lanes = Lanes(array.dtype)

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, lanes, signature.args[0], *arguments)
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing, array, index, numbers):
    """Write eight numbers to where :func:`load` would read them."""

    def generate(context, builder, signature, arguments):
        pointer = _pointer(context, builder, numbers, signature.args[0], *arguments[:2])
        builder.store(arguments[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, numbers), generate


@intrinsic
def repeat(typing, number):
    """One number eight times."""
    lanes = Lanes(number)

    def generate(context, builder, signature, arguments):
        return _repeat(builder, lanes, arguments[0])

    return lanes(number), generate


@intrinsic
def powers(typing, number):
    """A number to the powers 0 to 7."""
    lanes = Lanes(number)

    def generate(context, builder, signature, arguments):
        ones = ir.Constant(lanes.vector, [1.0] * WIDTH)
        square, result = arguments[0], ones
        for bit in (1, 2, 4):
            taken = ir.Constant(ir.VectorType(ir.IntType(1), WIDTH), [bool(lane & bit) for lane in range(WIDTH)])
            result = builder.fmul(result, builder.select(taken, _repeat(builder, lanes, square), ones))
            square = builder.fmul(square, square)
        return result

    return lanes(number), generate


@intrinsic
def _add(typing, first, second):
    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments, flags=("contract",))

    return first(first, first), generate


@intrinsic
def _multiply(typing, first, second):
    def generate(context, builder, signature, arguments):
        return builder.fmul(*arguments, flags=("contract",))

    return first(first, first), generate


@overload(operator.add)
def _add_lanes(first, second):
    if isinstance(first, Lanes) and first == second:
        return lambda first, second: _add(first, second)


@overload(operator.mul)
def _multiply_lanes(first, second):
    if isinstance(first, Lanes) and first == second:
        return lambda first, second: _multiply(first, second)


@intrinsic
def total(typing, numbers):
    """Sum of the eight numbers, in pairs."""

    def generate(context, builder, signature, arguments):
        parts = [builder.extract_element(arguments[0], _INDEX(lane)) for lane in range(WIDTH)]
        while len(parts) > 1:
            parts = [builder.fadd(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    return numbers.dtype(numbers), generate
