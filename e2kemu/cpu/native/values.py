"""The value builder that writes LLVM IR: meanings become SSA instructions.

A value is a Python ``int`` (known now) or a ``str``, the name of an SSA value: an ``i64``, or an ``i128`` when it can
have more than 64 bits. As in ``source_values`` a name remembers how many bits it can have, so that masks
are left out where they change nothing. A one-bit value also remembers the ``i1`` it was made from.

Semantics that LLVM leaves undefined are made defined here: division by zero and the one overflow of
signed division. Shift counts are below the width, as the rules of ``cpu/values.py`` demand.
"""

from __future__ import annotations

from e2kemu.cpu.values import PyValues

Ir = int | str
"""A value: known now, or the name of an SSA value."""

_FOLD = PyValues()


def signed_text(number: int, bits: int) -> str:
    """A constant as IR text of type i<bits>."""
    number &= (1 << bits) - 1
    return str(number - (1 << bits) if number >> (bits - 1) else number)


class LlvmValues:
    """Collects lines of IR. ``bits`` is the width of the operation at hand."""

    def __init__(self) -> None:
        self.bits = 64
        self.lines: list[str] = []
        self._count = 0
        self.width: dict[str, int] = {}
        """Upper bound of the bits of a name; 64 when it is not there."""
        self.bit: dict[str, str] = {}
        """Name of a one-bit value -> the i1 behind it."""
        self.intrinsics: set[str] = set()
        """Declarations that the function needs."""

    # -- text ------------------------------------------------------------------------------------------

    def fresh(self) -> str:
        """A new SSA name."""
        self._count += 1
        return f"%t{self._count}"

    def emit(self, text: str) -> None:
        """One line of IR."""
        self.lines.append(text)

    def name(self, instruction: str, bits: int = 64) -> str:
        """A new name for the result of ``instruction``, at most ``bits`` wide."""
        self._count += 1
        name = f"%t{self._count}"
        self.lines.append(f"{name} = {instruction}")
        if bits != 64:
            self.width[name] = bits
        return name

    def boolean(self, instruction: str) -> str:
        """A one-bit value from an instruction that gives an i1."""
        i1 = self.name(instruction, 1)
        name = self.name(f"zext i1 {i1} to i64", 1)
        self.bit[name] = i1
        return name

    def width_of(self, a: Ir) -> int:
        """The most bits ``a`` can have."""
        return a.bit_length() if isinstance(a, int) else self.width.get(a, 64)

    def as_bits(self, a: Ir, container: int) -> str:
        """``a`` as IR text of type i64 or i128; bits that do not fit are dropped."""
        if isinstance(a, int):
            return signed_text(a, container)
        have = 128 if self.width_of(a) > 64 else 64
        if have == container:
            return a
        if have < container:
            return self.name(f"zext i64 {a} to i128", self.width_of(a))
        return self.name(f"trunc i128 {a} to i64")

    def as_i1(self, a: Ir) -> str:
        """A one-bit value as IR text of type i1."""
        if isinstance(a, int):
            return "true" if a else "false"
        known = self.bit.get(a)
        if known is None:
            container = 128 if self.width_of(a) > 64 else 64
            known = self.name(f"icmp ne i{container} {a}, 0", 1)
        return known

    def narrow(self, a: Ir, bits: int) -> str:
        """``a`` as IR text of the integer type i<bits> (any width up to 64)."""
        if isinstance(a, int):
            return signed_text(a, bits)
        if bits == 1:
            return self.as_i1(a)
        text = self.as_bits(a, 64)
        return text if bits == 64 else self.name(f"trunc i64 {text} to i{bits}", bits)

    def _widths(self, *values: Ir) -> int:
        return 128 if max(map(self.width_of, values)) > 64 else 64

    def _result(self, operation: str, a: Ir, b: Ir, bits: int, container: int) -> str:
        """``operation`` on two values, its result being at most ``bits`` wide."""
        left, right = self.as_bits(a, container), self.as_bits(b, container)
        return self.name(f"{operation} i{container} {left}, {right}", bits)

    def _modulo(self, operation: str, a: Ir, b: Ir, width: int) -> Ir:
        """An operation modulo 2**width."""
        container = 128 if width > 64 else 64
        left, right = self.as_bits(a, container), self.as_bits(b, container)
        made = self.name(f"{operation} i{container} {left}, {right}", container)
        return self._cut(made, width)

    def _cut(self, a: str, width: int) -> Ir:
        """The low ``width`` bits of a name of width 64 or 128."""
        if width in (64, 128):
            return a
        container = 128 if width > 64 else 64
        return self.name(f"and i{container} {a}, {signed_text((1 << width) - 1, container)}", width)

    # -- Values ----------------------------------------------------------------------------------------

    def const(self, number: int, bits: int | None = None) -> Ir:
        return number & (1 << (bits or self.bits)) - 1

    def add(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.add(a, b, width)
        if a == 0 or b == 0:
            return self.trunc(b if a == 0 else a, width)
        return self._modulo("add", a, b, width)

    def sub(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.sub(a, b, width)
        if b == 0:
            return self.trunc(a, width)
        return self._modulo("sub", a, b, width)

    def mul(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.mul(a, b, width)
        return self._modulo("mul", a, b, width)

    def and_(self, a: Ir, b: Ir) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return a & b
        if a == 0 or b == 0:
            return 0
        for known, other in ((a, b), (b, a)):
            if isinstance(known, int):
                width = self.width_of(other)
                if known & (1 << width) - 1 == (1 << width) - 1:
                    return other
        if a in self.bit and b in self.bit:
            return self.boolean(f"and i1 {self.bit[a]}, {self.bit[b]}")
        width = min(self.width_of(a), self.width_of(b))
        container = 128 if width > 64 else 64
        left, right = self.as_bits(a, container), self.as_bits(b, container)
        return self.name(f"and i{container} {left}, {right}", width)

    def or_(self, a: Ir, b: Ir) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return a | b
        if a == 0 or b == 0:
            return b if a == 0 else a
        width = max(self.width_of(a), self.width_of(b))
        if 1 in (a, b) and width == 1:
            return 1
        if a in self.bit and b in self.bit:
            return self.boolean(f"or i1 {self.bit[a]}, {self.bit[b]}")
        return self._result("or", a, b, width, self._widths(a, b))

    def xor(self, a: Ir, b: Ir) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return a ^ b
        if a == 0 or b == 0:
            return b if a == 0 else a
        if (a in self.bit or a == 1) and (b in self.bit or b == 1):
            return self.boolean(f"xor i1 {self.as_i1(a)}, {self.as_i1(b)}")
        return self._result("xor", a, b, max(self.width_of(a), self.width_of(b)), self._widths(a, b))

    def not_(self, a: Ir, bits: int | None = None) -> Ir:
        return self.xor(a, (1 << (bits or self.bits)) - 1)

    def shl(self, a: Ir, count: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(count, int):
            return _FOLD.shl(a, count, width)
        if count == 0 or a == 0:
            return self.trunc(a, width)
        container = 128 if width > 64 else 64
        made = self.name(f"shl i{container} {self.as_bits(a, container)}, {self.as_bits(count, container)}", container)
        if isinstance(count, int) and self.width_of(a) + count <= width:
            self.width[made] = self.width_of(a) + count
            if self.width[made] <= 64 < container:
                self.width[made] = container
                return self.name(f"trunc i128 {made} to i64", self.width_of(a) + count)
            return made
        return self._cut(made, width)

    def lshr(self, a: Ir, count: Ir, bits: int | None = None) -> Ir:
        if isinstance(a, int) and isinstance(count, int):
            return a >> count
        if count == 0 or a == 0:
            return a
        width = self.width_of(a)
        container = 128 if width > 64 else 64
        if isinstance(count, int) and count >= width:
            return 0
        left = max(width - count, 1) if isinstance(count, int) else width
        made = self.name(f"lshr i{container} {self.as_bits(a, container)}, {self.as_bits(count, container)}", left)
        if container == 128 and left <= 64:
            self.width[made] = 128
            return self.name(f"trunc i128 {made} to i64", left)
        return made

    def ashr(self, a: Ir, count: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(count, int):
            return _FOLD.ashr(a, count, width)
        container = 128 if width > 64 else 64
        value = self._signed(a, width, container)
        made = self.name(f"ashr i{container} {value}, {self.as_bits(count, container)}", container)
        return self._cut(made, width)

    def _signed(self, a: Ir, width: int, container: int) -> str:
        """The low ``width`` bits of ``a`` as a signed number of the container."""
        if isinstance(a, int):
            return signed_text(_FOLD.sext(a, width, container), container)
        text = self.as_bits(a, container)
        if width == container:
            return text
        if width in (8, 16, 32) and container == 64:
            cut = self.name(f"trunc i64 {text} to i{width}", width)
            return self.name(f"sext i{width} {cut} to i64")
        up = self.name(f"shl i{container} {text}, {container - width}", container)
        return self.name(f"ashr i{container} {up}, {container - width}", container)

    def udiv(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.udiv(a, b)
        return self.name(f"udiv i64 {self.as_bits(a, 64)}, {self._divisor(b)}", self.width_of(a))

    def urem(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.urem(a, b)
        return self.name(f"urem i64 {self.as_bits(a, 64)}, {self._divisor(b)}", bits or self.bits)

    def _divisor(self, b: Ir) -> str:
        if isinstance(b, int):
            return signed_text(b or 1, 64)
        zero = self.name(f"icmp eq i64 {self.as_bits(b, 64)}, 0", 1)
        return self.name(f"select i1 {zero}, i64 1, i64 {self.as_bits(b, 64)}")

    def sdiv(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        return self._divide_signed(a, b, bits or self.bits)[0]

    def srem(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        return self._divide_signed(a, b, bits or self.bits)[1]

    def _divide_signed(self, a: Ir, b: Ir, width: int) -> tuple[Ir, Ir]:
        """Quotient and remainder; -1 as divisor is done by negation, which has no overflow."""
        x, y = self._signed(a, width, 64), self._signed(b, width, 64)
        zero = self.name(f"icmp eq i64 {y}, 0", 1)
        minus = self.name(f"icmp eq i64 {y}, -1", 1)
        odd = self.name(f"or i1 {zero}, {minus}", 1)
        divisor = self.name(f"select i1 {odd}, i64 1, i64 {y}")
        quotient = self.name(f"sdiv i64 {x}, {divisor}")
        negated = self.name(f"sub i64 0, {quotient}")
        quotient = self.name(f"select i1 {minus}, i64 {negated}, i64 {quotient}")
        rest = self.name(f"srem i64 {x}, {divisor}")
        return self._cut(quotient, width), self._cut(rest, width)

    def eq(self, a: Ir, b: Ir) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return int(a == b)
        for known, other in ((a, b), (b, a)):
            if known == 0 and other in self.bit:
                return self.xor(other, 1)
        container = self._widths(a, b)
        return self.boolean(f"icmp eq i{container} {self.as_bits(a, container)}, {self.as_bits(b, container)}")

    def ult(self, a: Ir, b: Ir) -> Ir:
        if isinstance(a, int) and isinstance(b, int):
            return int(a < b)
        container = self._widths(a, b)
        return self.boolean(f"icmp ult i{container} {self.as_bits(a, container)}, {self.as_bits(b, container)}")

    def slt(self, a: Ir, b: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int) and isinstance(b, int):
            return _FOLD.slt(a, b, width)
        container = 128 if width > 64 else 64
        if width in (8, 16, 32):
            return self.boolean(f"icmp slt i{width} {self.narrow(a, width)}, {self.narrow(b, width)}")
        x, y = self._signed(a, width, container), self._signed(b, width, container)
        return self.boolean(f"icmp slt i{container} {x}, {y}")

    def select(self, condition: Ir, if_true: Ir, if_false: Ir) -> Ir:
        if isinstance(condition, int):
            return if_true if condition else if_false
        if if_true == if_false:
            return if_true
        if (if_true, if_false) == (1, 0) and self.width_of(condition) == 1:
            return condition
        width = max(self.width_of(if_true), self.width_of(if_false))
        i1 = self.as_i1(condition)
        if width == 1:
            return self.boolean(f"select i1 {i1}, i1 {self.as_i1(if_true)}, i1 {self.as_i1(if_false)}")
        container = self._widths(if_true, if_false)
        a, b = self.as_bits(if_true, container), self.as_bits(if_false, container)
        return self.name(f"select i1 {i1}, i{container} {a}, i{container} {b}", width)

    def trunc(self, a: Ir, bits: int) -> Ir:
        if self.width_of(a) <= bits:
            return a
        if isinstance(a, int):
            return a & (1 << bits) - 1
        if bits == 64:
            return self.as_bits(a, 64)
        return self.and_(a, (1 << bits) - 1)

    def zext(self, a: Ir, bits: int) -> Ir:
        return a

    def sext(self, a: Ir, from_bits: int, bits: int) -> Ir:
        if isinstance(a, int):
            return _FOLD.sext(a, from_bits, bits)
        if self.width_of(a) < from_bits:
            return a
        container = 128 if bits > 64 else 64
        return self._cut(self._signed(a, from_bits, container), bits)

    def _counting(self, intrinsic: str, a: Ir, width: int, tail: str = "") -> str:
        container = 128 if width > 64 else 64
        name = f"llvm.{intrinsic}.i{container}"
        parameter = ", i1" if tail else ""
        self.intrinsics.add(f"declare i{container} @{name}(i{container}{parameter})")
        made = self.name(f"call i{container} @{name}(i{container} {self.as_bits(a, container)}{tail})", container)
        return made if container == 64 else self.name(f"trunc i128 {made} to i64")

    def clz(self, a: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int):
            return _FOLD.clz(a, width)
        container = 128 if width > 64 else 64
        made = self._counting("ctlz", a, width, ", i1 false")
        if width != container:
            made = self.name(f"sub i64 {made}, {container - width}")
        self.width[made] = 8
        return made

    def popcount(self, a: Ir, bits: int | None = None) -> Ir:
        if isinstance(a, int):
            return a.bit_count()
        made = self._counting("ctpop", a, max(bits or self.bits, self.width_of(a)))
        self.width[made] = 8
        return made

    def bitreverse(self, a: Ir, bits: int | None = None) -> Ir:
        width = bits or self.bits
        if isinstance(a, int):
            return _FOLD.bitreverse(a, width)
        container = 128 if width > 64 else 64
        name = f"llvm.bitreverse.i{container}"
        self.intrinsics.add(f"declare i{container} @{name}(i{container})")
        made = self.name(f"call i{container} @{name}(i{container} {self.as_bits(a, container)})", container)
        if width != container:
            made = self.name(f"lshr i{container} {made}, {container - width}", width)
        return made
