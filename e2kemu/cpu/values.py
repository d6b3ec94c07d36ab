"""The value builder: the small vocabulary in which operations are described, and its plain reading.

A meaning in ``cpu/isa`` computes with opaque *values* through a builder ``v``. Three builders read
the same functions: ``PyValues`` here (Python integers: the oracle), the source builder of the
reference tier (Python text, compiled once per wide instruction) and, later, LLVM. A value is an
unsigned number of a known width; the caller names a width only where it differs from ``v.bits``, the
width of the operation (32 for S forms, 64 for D forms, 128 for P forms: the letter of its first source).
An 8-bit literal operand is no value but a plain number.

Rules that keep the three equal: no Python ``if`` on a value (use ``select``), shift counts below the
width (mask them first). A division by zero gives some number: ``trap_if`` first.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

V = TypeVar("V")


class Values(Protocol[V]):
    """What a meaning may ask of its builder. ``bits`` defaults to the operation's width."""

    bits: int

    def const(self, number: int, bits: int | None = None) -> V:
        """The constant ``number`` modulo 2**bits."""

    def add(self, a: V, b: V, bits: int | None = None) -> V: ...
    def sub(self, a: V, b: V, bits: int | None = None) -> V: ...
    def mul(self, a: V, b: V, bits: int | None = None) -> V: ...
    def and_(self, a: V, b: V) -> V: ...
    def or_(self, a: V, b: V) -> V: ...
    def xor(self, a: V, b: V) -> V: ...
    def not_(self, a: V, bits: int | None = None) -> V: ...
    def shl(self, a: V, count: V, bits: int | None = None) -> V: ...
    def lshr(self, a: V, count: V, bits: int | None = None) -> V: ...
    def ashr(self, a: V, count: V, bits: int | None = None) -> V: ...
    def udiv(self, a: V, b: V, bits: int | None = None) -> V: ...
    def urem(self, a: V, b: V, bits: int | None = None) -> V: ...
    def sdiv(self, a: V, b: V, bits: int | None = None) -> V:
        """Signed quotient, truncated towards zero."""

    def srem(self, a: V, b: V, bits: int | None = None) -> V:
        """Signed remainder; its sign is the dividend's."""

    def eq(self, a: V, b: V) -> V:
        """1 when equal, else 0 (a one-bit value, as all comparisons give)."""

    def ult(self, a: V, b: V) -> V: ...
    def slt(self, a: V, b: V, bits: int | None = None) -> V: ...
    def select(self, condition: V, if_true: V, if_false: V) -> V:
        """``if_true`` when the one-bit ``condition`` is 1; both are evaluated."""

    def trunc(self, a: V, bits: int) -> V:
        """The low ``bits`` of ``a``."""

    def zext(self, a: V, bits: int) -> V:
        """``a`` widened with zeros to ``bits``."""

    def sext(self, a: V, from_bits: int, bits: int) -> V:
        """The low ``from_bits`` of ``a``, sign-extended to ``bits``."""

    def clz(self, a: V, bits: int | None = None) -> V:
        """Leading zeros; ``bits`` for 0."""

    def popcount(self, a: V, bits: int | None = None) -> V: ...
    def bitreverse(self, a: V, bits: int | None = None) -> V: ...
    def fp(self, name: str, *operands: V) -> V:
        """The value of a primitive of ``fp.OPERATIONS`` in the CPU's rounding mode.

        Its flags become sticky; an exception that is not masked is raised (or makes a speculative result diagnostic).
        """

    def trap_if(self, condition: V, exception: int) -> None:
        """Raise the exception (a number of ``isa.traps``) when the one-bit condition is 1."""

    def load(self, address: V, size: int) -> V:
        """Read ``size`` bytes (1, 2, 4, 8) of memory, little endian, zero-extended to 64 bits."""

    def store(self, address: V, size: int, value: V) -> None:
        """Write the low ``size`` bytes of ``value``."""

    def store_if(self, condition: V, address: V, size: int, value: V) -> None:
        """``store`` when the one-bit ``condition`` is 1."""

    def merge_condition(self) -> V:
        """The MRGC predicate of this channel: 1 selects the second source."""

    def read_sreg(self, number: int) -> V:
        """The 64-bit content of state register ``number``."""

    def write_sreg(self, number: int, value: V) -> None:
        """Write state register ``number``."""


_TOP = {bits: 1 << (bits - 1) for bits in (8, 16, 32, 64, 128)}
_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def signed(a: int, bits: int) -> int:
    """The unsigned ``a`` of ``bits`` read as two's complement."""
    top = _TOP[bits]
    return (a ^ top) - top


def divide_signed(a: int, b: int, bits: int) -> int:
    """Quotient truncated towards zero, modulo 2**bits; a zero divisor counts as 1 (it has trapped before)."""
    x, y = signed(a, bits), signed(b, bits) or 1
    quotient = abs(x) // abs(y)
    return (quotient if (x < 0) == (y < 0) else -quotient) & (1 << bits) - 1


def remainder_signed(a: int, b: int, bits: int) -> int:
    """Remainder with the sign of the dividend, modulo 2**bits; a zero divisor counts as 1."""
    x, y = signed(a, bits), signed(b, bits) or 1
    rest = abs(x) % abs(y)
    return (rest if x >= 0 else -rest) & (1 << bits) - 1


def reverse_bits(a: int, bits: int) -> int:
    """The low ``bits`` of ``a`` (a multiple of 8) in reverse order."""
    return int.from_bytes(a.to_bytes(bits // 8, "big").translate(_REVERSED), "little")


class PyValues:
    """The plain reading: values are Python integers. The rest (traps, memory, registers) is the machine's."""

    bits = 64

    def const(self, number: int, bits: int | None = None) -> int:
        return number & (1 << (bits or self.bits)) - 1

    def add(self, a: int, b: int, bits: int | None = None) -> int:
        return a + b & (1 << (bits or self.bits)) - 1

    def sub(self, a: int, b: int, bits: int | None = None) -> int:
        return a - b & (1 << (bits or self.bits)) - 1

    def mul(self, a: int, b: int, bits: int | None = None) -> int:
        return a * b & (1 << (bits or self.bits)) - 1

    def and_(self, a: int, b: int) -> int:
        return a & b

    def or_(self, a: int, b: int) -> int:
        return a | b

    def xor(self, a: int, b: int) -> int:
        return a ^ b

    def not_(self, a: int, bits: int | None = None) -> int:
        return a ^ (1 << (bits or self.bits)) - 1

    def shl(self, a: int, count: int, bits: int | None = None) -> int:
        return a << count & (1 << (bits or self.bits)) - 1

    def lshr(self, a: int, count: int, bits: int | None = None) -> int:
        return a >> count

    def ashr(self, a: int, count: int, bits: int | None = None) -> int:
        width = bits or self.bits
        return signed(a, width) >> count & (1 << width) - 1

    def udiv(self, a: int, b: int, bits: int | None = None) -> int:
        return a // (b or 1)

    def urem(self, a: int, b: int, bits: int | None = None) -> int:
        return a % (b or 1)

    def sdiv(self, a: int, b: int, bits: int | None = None) -> int:
        return divide_signed(a, b, bits or self.bits)

    def srem(self, a: int, b: int, bits: int | None = None) -> int:
        return remainder_signed(a, b, bits or self.bits)

    def eq(self, a: int, b: int) -> int:
        return int(a == b)

    def ult(self, a: int, b: int) -> int:
        return int(a < b)

    def slt(self, a: int, b: int, bits: int | None = None) -> int:
        top = _TOP[bits or self.bits]
        return int(a ^ top < b ^ top)

    def select(self, condition: int, if_true: int, if_false: int) -> int:
        return if_true if condition else if_false

    def trunc(self, a: int, bits: int) -> int:
        return a & (1 << bits) - 1

    def zext(self, a: int, bits: int) -> int:
        return a

    def sext(self, a: int, from_bits: int, bits: int) -> int:
        return signed(a & (1 << from_bits) - 1, from_bits) & (1 << bits) - 1

    def clz(self, a: int, bits: int | None = None) -> int:
        return (bits or self.bits) - a.bit_length()

    def popcount(self, a: int, bits: int | None = None) -> int:
        return a.bit_count()

    def bitreverse(self, a: int, bits: int | None = None) -> int:
        return reverse_bits(a, bits or self.bits)
