"""The value builder that writes Python: meanings become statements over local variables.

What is not known now becomes one assignment an operation. Names are used once, as in SSA. Masks are left out where
they change nothing.
"""

from __future__ import annotations

from e2kemu.cpu.folding import Code, FoldingValues

Src = Code
"""A value: known now, or the name of a local variable."""


class SourceValues(FoldingValues):
    """Collects lines of Python."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 1
        self._count = 0

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

    def masked(self, expression: str, bits: int) -> str:
        """A new local with the low ``bits`` of ``expression``."""
        return self.name(f"{expression} & {(1 << bits) - 1:#x}", bits)

    # -- operations --------------------------------------------------------------------------------

    def make_add(self, a: Src, b: Src, width: int) -> Src:
        wider = max(self.width_of(a), self.width_of(b))
        return self.name(f"{a} + {b}", wider + 1) if wider < width else self.masked(f"{a} + {b}", width)

    def make_sub(self, a: Src, b: Src, width: int) -> Src:
        return self.masked(f"{a} - {b}", width)

    def make_mul(self, a: Src, b: Src, width: int) -> Src:
        return self.masked(f"{a} * {b}", width)

    def make_and(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"{a} & {b}", width)

    def make_or(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"{a} | {b}", width)

    def make_xor(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"{a} ^ {b}", width)

    def make_shl(self, a: Src, count: Src, width: int) -> Src:
        if isinstance(count, int) and self.width_of(a) + count <= width:
            return self.name(f"{a} << {count}", self.width_of(a) + count)
        return self.masked(f"{a} << {count}", width)

    def make_lshr(self, a: Src, count: Src, width: int) -> Src:
        return self.name(f"{a} >> {count}", width)

    def make_ashr(self, a: Src, count: Src, width: int) -> Src:
        top = 1 << (width - 1)
        return self.masked(f"(({a} ^ {top:#x}) - {top:#x} >> {count})", width)

    def make_udiv(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"{a} // ({b} or 1)", width)

    def make_urem(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"{a} % ({b} or 1)", width)

    def make_sdiv(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"divide_signed({a}, {b}, {width})", width)

    def make_srem(self, a: Src, b: Src, width: int) -> Src:
        return self.name(f"remainder_signed({a}, {b}, {width})", width)

    def make_eq(self, a: Src, b: Src) -> Src:
        return self.name(f"{a} == {b}", 1)

    def make_ult(self, a: Src, b: Src) -> Src:
        return self.name(f"{a} < {b}", 1)

    def make_slt(self, a: Src, b: Src, width: int) -> Src:
        top = 1 << (width - 1)
        x, y = (v ^ top if isinstance(v, int) else f"({v} ^ {top:#x})" for v in (a, b))
        return self.name(f"{x} < {y}", 1)

    def make_select(self, condition: str, if_true: Src, if_false: Src, width: int) -> Src:
        if (if_true, if_false) == (1, 0):
            return condition
        return self.name(f"{if_true} if {condition} else {if_false}", width)

    def make_trunc(self, a: str, bits: int) -> Src:
        return self.masked(a, bits)

    def make_sext(self, a: str, from_bits: int, bits: int) -> Src:
        low, top = self.trunc(a, from_bits), 1 << (from_bits - 1)
        return self.masked(f"({low} ^ {top:#x}) - {top:#x}", bits)

    def make_clz(self, a: str, width: int) -> Src:
        return self.name(f"{width} - ({a}).bit_length()", 8)

    def make_popcount(self, a: str, width: int) -> Src:
        return self.name(f"({a}).bit_count()", 8)

    def make_bitreverse(self, a: str, width: int) -> Src:
        return self.name(f"reverse_bits({a}, {width})", width)
