"""What the value builders that write code have in common: what is known now is computed now.

A value is a Python ``int`` (known now) or a ``str``, the name of a value that the written code will compute. Numbers
are folded by ``PyValues``, the plain reading; what changes nothing (adding 0, a mask wider than the value) is left
out. For the rest a builder has one ``make_...`` for each operation, called with at least one name among its values;
widths are told, never defaults. Every name remembers how many bits it can have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from e2kemu.cpu.values import PyValues

Code = int | str
"""A value: known now, or the name of one."""

_FOLD = PyValues()


class FoldingValues(ABC):
    """The computing half of ``values.Values``. ``bits`` is the width of the operation at hand."""

    def __init__(self) -> None:
        self.bits = 64
        self.lines: list[str] = []
        self.width: dict[str, int] = {}
        """Upper bound of the bits of a name; 64 when it is not there."""

    def width_of(self, a: Code) -> int:
        """The most bits ``a`` can have."""
        return a.bit_length() if isinstance(a, int) else self.width.get(a, 64)

    # -- Values ------------------------------------------------------------------------------------

    def const(self, number: int, bits: int | None = None) -> Code:
        return number & (1 << (bits or self.bits)) - 1

    def add(self, a: Code, b: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.add(a, b, width)
        if a == 0 or b == 0:
            return self.trunc(b if a == 0 else a, width)
        return self.make_add(a, b, width)

    def sub(self, a: Code, b: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.sub(a, b, width)
        return self.trunc(a, width) if b == 0 else self.make_sub(a, b, width)

    def mul(self, a: Code, b: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.mul(a, b, width)
        return self.make_mul(a, b, width)

    def and_(self, a: Code, b: Code) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return a & b
        if a == 0 or b == 0:
            return 0
        for known, other in ((a, b), (b, a)):
            if isinstance(known, int):
                all_of_it = (1 << self.width_of(other)) - 1
                if known & all_of_it == all_of_it:
                    return other
        return self.make_and(a, b, min(self.width_of(a), self.width_of(b)))

    def or_(self, a: Code, b: Code) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return a | b
        if a == 0 or b == 0:
            return b if a == 0 else a
        width = max(self.width_of(a), self.width_of(b))
        return 1 if 1 in (a, b) and width == 1 else self.make_or(a, b, width)

    def xor(self, a: Code, b: Code) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return a ^ b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self.make_xor(a, b, max(self.width_of(a), self.width_of(b)))

    def not_(self, a: Code, bits: int | None = None) -> Code:
        return self.xor(a, (1 << (bits or self.bits)) - 1)

    def shl(self, a: Code, count: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(count, int):
            return _FOLD.shl(a, count, width)
        return self.trunc(a, width) if count == 0 or a == 0 else self.make_shl(a, count, width)

    def lshr(self, a: Code, count: Code, bits: int | None = None) -> Code:
        if isinstance(a, int) and isinstance(count, int):
            return a >> count
        if count == 0 or a == 0:
            return a
        width = self.width_of(a)
        if not isinstance(count, int):
            return self.make_lshr(a, count, width)
        return 0 if count >= width else self.make_lshr(a, count, width - count)

    def ashr(self, a: Code, count: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(count, int):
            return _FOLD.ashr(a, count, width)
        return self.make_ashr(a, count, width)

    def udiv(self, a: Code, b: Code, bits: int | None = None) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.udiv(a, b)
        return self.make_udiv(a, b, self.width_of(a))

    def urem(self, a: Code, b: Code, bits: int | None = None) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.urem(a, b)
        return self.make_urem(a, b, bits or self.bits)

    def sdiv(self, a: Code, b: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.sdiv(a, b, width)
        return self.make_sdiv(a, b, width)

    def srem(self, a: Code, b: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.srem(a, b, width)
        return self.make_srem(a, b, width)

    def eq(self, a: Code, b: Code) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return int(a == b)
        return self.make_eq(a, b)

    def ult(self, a: Code, b: Code) -> Code:
        if isinstance(a, int) and isinstance(b, int):
            return int(a < b)
        return self.make_ult(a, b)

    def slt(self, a: Code, b: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.slt(a, b, width)
        return self.make_slt(a, b, width)

    def select(self, condition: Code, if_true: Code, if_false: Code) -> Code:
        if isinstance(condition, int):
            return if_true if condition else if_false
        if if_true == if_false:
            return if_true
        return self.make_select(condition, if_true, if_false, max(self.width_of(if_true), self.width_of(if_false)))

    def trunc(self, a: Code, bits: int) -> Code:
        if self.width_of(a) <= bits:
            return a
        return a & (1 << bits) - 1 if isinstance(a, int) else self.make_trunc(a, bits)

    def zext(self, a: Code, bits: int) -> Code:
        return a

    def sext(self, a: Code, from_bits: int, bits: int) -> Code:
        if isinstance(a, int):
            return _FOLD.sext(a, from_bits, bits)
        return a if self.width_of(a) < from_bits else self.make_sext(a, from_bits, bits)

    def clz(self, a: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        return _FOLD.clz(a, width) if isinstance(a, int) else self.make_clz(a, width)

    def popcount(self, a: Code, bits: int | None = None) -> Code:
        return a.bit_count() if isinstance(a, int) else self.make_popcount(a, bits or self.bits)

    def bitreverse(self, a: Code, bits: int | None = None) -> Code:
        width = bits or self.bits
        return _FOLD.bitreverse(a, width) if isinstance(a, int) else self.make_bitreverse(a, width)

    # -- what a builder writes ---------------------------------------------------------------------

    @abstractmethod
    def make_add(self, a: Code, b: Code, width: int) -> Code:
        """Modulo 2**width, as all of these."""

    @abstractmethod
    def make_sub(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_mul(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_and(self, a: Code, b: Code, width: int) -> Code:
        """``width`` is the result's, for the three of them."""

    @abstractmethod
    def make_or(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_xor(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_shl(self, a: Code, count: Code, width: int) -> Code: ...
    @abstractmethod
    def make_lshr(self, a: Code, count: Code, width: int) -> Code:
        """``width`` is the result's."""

    @abstractmethod
    def make_ashr(self, a: Code, count: Code, width: int) -> Code: ...
    @abstractmethod
    def make_udiv(self, a: Code, b: Code, width: int) -> Code:
        """A divisor of 0 gives some number, here and in the other three."""

    @abstractmethod
    def make_urem(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_sdiv(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_srem(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_eq(self, a: Code, b: Code) -> Code: ...
    @abstractmethod
    def make_ult(self, a: Code, b: Code) -> Code: ...
    @abstractmethod
    def make_slt(self, a: Code, b: Code, width: int) -> Code: ...
    @abstractmethod
    def make_select(self, condition: str, if_true: Code, if_false: Code, width: int) -> Code:
        """``width`` is the result's."""

    @abstractmethod
    def make_trunc(self, a: str, bits: int) -> Code: ...
    @abstractmethod
    def make_sext(self, a: str, from_bits: int, bits: int) -> Code: ...
    @abstractmethod
    def make_clz(self, a: str, width: int) -> Code: ...
    @abstractmethod
    def make_popcount(self, a: str, width: int) -> Code: ...
    @abstractmethod
    def make_bitreverse(self, a: str, width: int) -> Code: ...
