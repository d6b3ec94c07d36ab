"""The value builder: the small vocabulary in which operations are described, and its plain reading.

A meaning in ``cpu/isa`` computes with opaque *values* through a builder ``v``. Three builders read
the same functions: ``PyValues`` here (Python integers: the oracle), the source builder of the
reference tier (Python text, compiled once per wide instruction) and, later, LLVM. A value is an
unsigned number of a known width; the caller names a width only where it differs from ``v.bits``, the
width of the operation (32 for S forms, 64 for D forms: the letter of its first source).

Rules that keep the three equal: no Python ``if`` on a value (use ``select``), shift counts below the
width (mask them first), no division by zero (``trap_if`` first).
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
    def trap_if(self, condition: V, exception: int) -> None:
        """Raise the exception (a number of ``isa.traps``) when the one-bit condition is 1."""

    def load(self, address: V, size: int) -> V:
        """Read ``size`` bytes (1, 2, 4, 8) of memory, little endian, zero-extended to 64 bits."""

    def store(self, address: V, size: int, value: V) -> None:
        """Write the low ``size`` bytes of ``value``."""

    def merge_condition(self) -> V:
        """The MRGC predicate of this channel: 1 selects the second source."""

    def read_sreg(self, number: int) -> V:
        """The 64-bit content of state register ``number``."""

    def write_sreg(self, number: int, value: V) -> None:
        """Write state register ``number``."""
