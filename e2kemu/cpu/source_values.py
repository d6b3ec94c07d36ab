"""The value builder that writes Python: meanings become statements over local variables.

A value is a Python ``int`` (known now) or a ``str`` (the name of a local). Whatever is known now is
computed now, by ``PyValues``; the rest becomes one assignment an operation. Names are used once, as in SSA,
and remember how many bits they can have so that masks are left out where they change nothing.
"""

from __future__ import annotations

from e2kemu.cpu.values import PyValues

Src = int | str
"""A value: known now, or the name of a local variable."""

_FOLD = PyValues()


class SourceValues:
    """Collects lines of Python. ``bits`` is the width of the operation at hand."""

    def __init__(self) -> None:
        self.bits = 64
        self.lines: list[str] = []
        self.depth = 1
        self._count = 0
        self.width: dict[str, int] = {}
        """Upper bound of the bits of a name; 64 when it is not there."""

    def emit(self, text: str) -> None:
        """One line at the current depth."""
        self.lines.append(" " * self.depth + text)

    def name(self, expression: str, bits: int) -> str:
        """A new local with the value of ``expression``, at most ``bits`` wide."""
        self._count += 1
        name = f"t{self._count}"
        self.emit(f"{name} = {expression}")
        if bits != 64:
            self.width[name] = bits
        return name

    def width_of(self, a: Src) -> int:
        """The most bits ``a`` can have."""
        return a.bit_length() if isinstance(a, int) else self.width.get(a, 64)

    def masked(self, expression: str, bits: int) -> str:
        """A new local with the low ``bits`` of ``expression``."""
        return self.name(f"{expression} & {(1 << bits) - 1:#x}", bits)

    # -- Values ------------------------------------------------------------------------------------

    def const(self, number: int, bits: int | None = None) -> Src:
        return number & (1 << (bits or self.bits)) - 1

    def add(self, a: Src, b: Src, bits: int | None = None) -> Src:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.add(a, b, width)
        if a == 0 or b == 0:
            return self.trunc(b if a == 0 else a, width)
        if max(self.width_of(a), self.width_of(b)) < width:
            return self.name(f"{a} + {b}", max(self.width_of(a), self.width_of(b)) + 1)
        return self.masked(f"{a} + {b}", width)

    def sub(self, a: Src, b: Src, bits: int | None = None) -> Src:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.sub(a, b, width)
        if b == 0:
            return self.trunc(a, width)
        return self.masked(f"{a} - {b}", width)

    def mul(self, a: Src, b: Src, bits: int | None = None) -> Src:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.mul(a, b, width)
        return self.masked(f"{a} * {b}", width)

    def and_(self, a: Src, b: Src) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return a & b
        if a == 0 or b == 0:
            return 0
        for known, other in ((a, b), (b, a)):
            if isinstance(known, int):
                width = self.width_of(other)
                if known & (1 << width) - 1 == (1 << width) - 1:
                    return other
        return self.name(f"{a} & {b}", min(self.width_of(a), self.width_of(b)))

    def or_(self, a: Src, b: Src) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return a | b
        if a == 0 or b == 0:
            return b if a == 0 else a
        if 1 in (a, b) and max(self.width_of(a), self.width_of(b)) == 1:
            return 1
        return self.name(f"{a} | {b}", max(self.width_of(a), self.width_of(b)))

    def xor(self, a: Src, b: Src) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return a ^ b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self.name(f"{a} ^ {b}", max(self.width_of(a), self.width_of(b)))

    def not_(self, a: Src, bits: int | None = None) -> Src:
        return self.xor(a, (1 << (bits or self.bits)) - 1)

    def shl(self, a: Src, count: Src, bits: int | None = None) -> Src:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(count, int):
            return _FOLD.shl(a, count, width)
        if count == 0 or a == 0:
            return a
        if isinstance(count, int) and self.width_of(a) + count <= width:
            return self.name(f"{a} << {count}", self.width_of(a) + count)
        return self.masked(f"{a} << {count}", width)

    def lshr(self, a: Src, count: Src, bits: int | None = None) -> Src:
        if isinstance(a, int) and isinstance(count, int):
            return a >> count
        if count == 0 or a == 0:
            return a
        narrowed = count if isinstance(count, int) else 0
        return self.name(f"{a} >> {count}", max(self.width_of(a) - narrowed, 0) or 1)

    def ashr(self, a: Src, count: Src, bits: int | None = None) -> Src:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(count, int):
            return _FOLD.ashr(a, count, width)
        top = 1 << (width - 1)
        return self.masked(f"(({a} ^ {top:#x}) - {top:#x} >> {count})", width)

    def udiv(self, a: Src, b: Src, bits: int | None = None) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.udiv(a, b)
        return self.name(f"{a} // ({b} or 1)", self.width_of(a))

    def urem(self, a: Src, b: Src, bits: int | None = None) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.urem(a, b)
        return self.name(f"{a} % ({b} or 1)", bits or self.bits)

    def sdiv(self, a: Src, b: Src, bits: int | None = None) -> Src:
        return self.name(f"divide_signed({a}, {b}, {bits or self.bits})", bits or self.bits)

    def srem(self, a: Src, b: Src, bits: int | None = None) -> Src:
        return self.name(f"remainder_signed({a}, {b}, {bits or self.bits})", bits or self.bits)

    def eq(self, a: Src, b: Src) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return int(a == b)
        return self.name(f"{a} == {b}", 1)

    def ult(self, a: Src, b: Src) -> Src:
        if isinstance(a, int) and isinstance(b, int):
            return int(a < b)
        return self.name(f"{a} < {b}", 1)

    def slt(self, a: Src, b: Src, bits: int | None = None) -> Src:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.slt(a, b, width)
        top = 1 << (width - 1)
        x, y = (v ^ top if isinstance(v, int) else f"({v} ^ {top:#x})" for v in (a, b))
        return self.name(f"{x} < {y}", 1)

    def select(self, condition: Src, if_true: Src, if_false: Src) -> Src:
        if isinstance(condition, int):
            return if_true if condition else if_false
        if if_true == if_false:
            return if_true
        if (if_true, if_false) == (1, 0):
            return condition
        width = max(self.width_of(if_true), self.width_of(if_false))
        return self.name(f"{if_true} if {condition} else {if_false}", width)

    def trunc(self, a: Src, bits: int) -> Src:
        return self.and_(a, (1 << bits) - 1) if self.width_of(a) > bits else a

    def zext(self, a: Src, bits: int) -> Src:
        return a

    def sext(self, a: Src, from_bits: int, bits: int) -> Src:
        if isinstance(a, int):
            return _FOLD.sext(a, from_bits, bits)
        if self.width_of(a) < from_bits:
            return a
        low, top = self.trunc(a, from_bits), 1 << (from_bits - 1)
        return self.masked(f"({low} ^ {top:#x}) - {top:#x}", bits)

    def clz(self, a: Src, bits: int | None = None) -> Src:
        return self.name(f"{bits or self.bits} - ({a}).bit_length()", 8)

    def popcount(self, a: Src, bits: int | None = None) -> Src:
        return self.name(f"({a}).bit_count()", 8)

    def bitreverse(self, a: Src, bits: int | None = None) -> Src:
        return self.name(f"reverse_bits({a}, {bits or self.bits})", bits or self.bits)
