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


def bit_masks(v: V, a: V, bit: int, size: int) -> V:
    """Lanes of ones where this bit of the lane of ``a`` is 1, of zeros elsewhere."""
    bits = v.and_(v.lshr(a, v.const(bit)), v.const(repeat(1, size, v.bits)))
    return v.mul(bits, v.const((1 << size) - 1))


def sign_masks(v: V, a: V, size: int) -> V:
    """Lanes of ones where the lane of ``a`` is negative, of zeros elsewhere."""
    return bit_masks(v, a, size - 1, size)


def equal(v: V, a: V, b: V, size: int) -> V:
    """Lanes of ones where the lanes are equal, of zeros elsewhere."""
    rest = v.const(repeat((1 << size - 1) - 1, size, v.bits))
    apart = v.xor(a, b)
    return v.not_(sign_masks(v, v.or_(v.add(v.and_(apart, rest), rest), apart), size))


def below(v: V, a: V, b: V, size: int) -> V:
    """Lanes of ones where a < b, unsigned, of zeros elsewhere: where the subtraction borrows."""
    not_a = v.not_(a)
    borrow = v.or_(v.and_(not_a, b), v.and_(v.or_(not_a, b), sub(v, a, b, size)))
    return sign_masks(v, borrow, size)


def less(v: V, a: V, b: V, size: int) -> V:
    """Lanes of ones where a < b, signed, of zeros elsewhere."""
    top = v.const(repeat(1 << size - 1, size, v.bits))
    return below(v, v.xor(a, top), v.xor(b, top), size)


def choose(v: V, masks: V, a: V, b: V) -> V:
    """``a`` where the masks are ones, ``b`` where they are zeros."""
    return v.or_(v.and_(a, masks), v.and_(b, v.not_(masks)))


def _limited(v: V, a: V, overflow: V, result: V, size: int) -> V:
    """``result``; where the sign of ``overflow`` is set the limit on the side of ``a``."""
    limit = v.xor(sign_masks(v, a, size), v.const(repeat((1 << size - 1) - 1, size, v.bits)))
    return choose(v, sign_masks(v, overflow, size), limit, result)


def add_signed(v: V, a: V, b: V, size: int) -> V:
    """The sums of the lanes, saturating to signed."""
    total = add(v, a, b, size)
    return _limited(v, a, v.and_(v.xor(a, total), v.xor(b, total)), total, size)


def sub_signed(v: V, a: V, b: V, size: int) -> V:
    """The differences of the lanes, saturating to signed."""
    rest = sub(v, a, b, size)
    return _limited(v, a, v.and_(v.xor(a, b), v.xor(a, rest)), rest, size)


def add_unsigned(v: V, a: V, b: V, size: int) -> V:
    """The sums of the lanes, saturating to unsigned."""
    total = add(v, a, b, size)
    return v.or_(total, below(v, total, a, size))


def sub_unsigned(v: V, a: V, b: V, size: int) -> V:
    """The differences of the lanes, 0 where they would be negative."""
    return v.and_(sub(v, a, b, size), v.not_(below(v, a, b, size)))


def average(v: V, a: V, b: V, size: int) -> V:
    """(a + b + 1) / 2 of the lanes, unsigned."""
    half = v.and_(v.lshr(v.xor(a, b), v.const(1)), v.const(repeat((1 << size - 1) - 1, size, v.bits)))
    return v.sub(v.or_(a, b), half)


def with_sign(v: V, a: V, b: V, size: int) -> V:
    """The lanes of a: negated where b is negative, 0 where it is 0."""
    negative = sign_masks(v, b, size)
    return v.and_(sub(v, v.xor(a, negative), negative, size), v.not_(equal(v, b, v.const(0), size)))


def minimum(v: V, a: V, b: V, size: int) -> V:
    """The lesser lanes, unsigned."""
    return choose(v, below(v, a, b, size), a, b)


def maximum(v: V, a: V, b: V, size: int) -> V:
    """The greater lanes, unsigned."""
    return choose(v, below(v, a, b, size), b, a)


def minimum_signed(v: V, a: V, b: V, size: int) -> V:
    """The lesser lanes, signed."""
    return choose(v, less(v, a, b, size), a, b)


def maximum_signed(v: V, a: V, b: V, size: int) -> V:
    """The greater lanes, signed."""
    return choose(v, less(v, a, b, size), b, a)


def right(v: V, a: V, count: V, size: int) -> tuple[V, V]:
    """The lanes shifted right by a count below ``size``, bringing in zeros; and a mask of the bits that were not brought in."""
    kept = v.mul(v.lshr(v.const((1 << size) - 1), count), v.const(repeat(1, size, v.bits)))
    return v.and_(v.lshr(a, count), kept), kept


def left(v: V, a: V, count: V, size: int) -> V:
    """The lanes shifted left by a count below ``size``."""
    ones = v.const((1 << size) - 1)
    kept = v.mul(v.and_(v.shl(ones, count), ones), v.const(repeat(1, size, v.bits)))
    return v.and_(v.shl(a, count), kept)


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


def reversed_bytes(v: V, a: V) -> V:
    """The bits of every byte in reverse order."""
    for step, pattern in ((1, 0x55), (2, 0x33), (4, 0x0F)):
        kept, count = v.const(repeat(pattern, 8, v.bits)), v.const(step)
        a = v.or_(v.and_(v.lshr(a, count), kept), v.shl(v.and_(a, kept), count))
    return a
