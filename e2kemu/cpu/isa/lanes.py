"""Elements of packed values: helpers of the packed meanings, over the value builder.

A packed value of ``width`` bits (``v.bits`` unless said otherwise) is a row of elements ("lanes") of ``size``
bits; lane 0 is the lowest. What is the same for all lanes at once is done on the whole value where that takes fewer steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

V = Any


def repeat(number: int, size: int, width: int) -> int:
    """The pattern ``number`` in every lane."""
    return number * (((1 << width) - 1) // ((1 << size) - 1))


def split(v: V, a: V, size: int, width: int | None = None) -> list[V]:
    """The lanes of ``a``, the lowest first."""
    whole = width or v.bits
    return [v.trunc(v.lshr(a, v.const(at, whole), whole), size) for at in range(0, whole, size)]


def join(v: V, lanes: Iterable[V], size: int, width: int | None = None) -> V:
    """The value whose lanes these are, the lowest first; lanes that are missing are 0."""
    whole = width or v.bits
    result = v.const(0, whole)
    for index, lane in enumerate(lanes):
        result = v.or_(result, v.shl(v.zext(lane, whole), v.const(index * size, whole), whole))
    return result


def each(v: V, size: int, f: Callable[..., V], *sources: V) -> V:
    """``f`` of every lane of the sources."""
    rows = zip(*(split(v, source, size) for source in sources), strict=True)
    return join(v, (f(*lanes) for lanes in rows), size)


def pair(v: V, high: V, low: V) -> V:
    """128 bits of two halves."""
    return v.or_(v.zext(low, 128), v.shl(v.zext(high, 128), v.const(64, 128), 128))


def halves(v: V, a: V) -> tuple[V, V]:
    """The low and the high 64 of 128 bits."""
    return v.trunc(a, 64), v.trunc(v.lshr(a, v.const(64, 128), 128), 64)


def add(v: V, a: V, b: V, size: int) -> V:
    """The sums of the lanes, wrapping."""
    top = v.const(repeat(1 << size - 1, size, v.bits))
    rest = v.not_(top)
    return v.xor(v.add(v.and_(a, rest), v.and_(b, rest)), v.and_(v.xor(a, b), top))


def sub(v: V, a: V, b: V, size: int) -> V:
    """The differences of the lanes, wrapping."""
    top = v.const(repeat(1 << size - 1, size, v.bits))
    return v.xor(v.sub(v.or_(a, top), v.and_(b, v.not_(top))), v.and_(v.xor(a, v.not_(b)), top))


def sign_masks(v: V, a: V, size: int) -> V:
    """Lanes of ones where the lane of ``a`` is negative, of zeros elsewhere."""
    signs = v.and_(v.lshr(a, v.const(size - 1)), v.const(repeat(1, size, v.bits)))
    return v.mul(signs, v.const((1 << size) - 1))


def mask(v: V, bit: V, size: int) -> V:
    """A lane of ones when ``bit`` is 1, of zeros when it is 0."""
    return v.select(bit, v.const(-1, size), v.const(0, size))


def signs(v: V, a: V, size: int, width: int | None = None) -> V:
    """The sign bits of the lanes, packed into a number."""
    whole = width or v.bits
    result = v.const(0, whole)
    for index in range(whole // size):
        bit = v.lshr(a, v.const((index + 1) * size - 1 - index, whole), whole)
        result = v.or_(result, v.and_(bit, v.const(1 << index, whole)))
    return result


def saturate_signed(v: V, a: V, size: int) -> V:
    """The signed 32-bit ``a`` as the nearest signed number of ``size`` bits."""
    low, high = v.const(-(1 << size - 1), 32), v.const((1 << size - 1) - 1, 32)
    return v.trunc(v.select(v.slt(a, low, 32), low, v.select(v.slt(high, a, 32), high, a)), size)


def saturate_unsigned(v: V, a: V, size: int) -> V:
    """The signed 32-bit ``a`` as the nearest unsigned number of ``size`` bits."""
    low, high = v.const(0, 32), v.const((1 << size) - 1, 32)
    return v.trunc(v.select(v.slt(a, low, 32), low, v.select(v.slt(high, a, 32), high, a)), size)


def distance(v: V, a: V, b: V, bits: int) -> V:
    """|a - b| of unsigned numbers."""
    return v.select(v.ult(a, b), v.sub(b, a, bits), v.sub(a, b, bits))
