"""The value builder that writes LLVM IR: meanings become SSA instructions.

A name is that of an SSA value: an ``i64``, or an ``i128`` when it can have more than 64 bits. Masks are left out
where they change nothing. A one-bit value also remembers the ``i1`` it was made from.

Semantics that LLVM leaves undefined are made defined here: division by zero and the one overflow of
signed division. Shift counts are below the width, as the rules of ``cpu/values.py`` demand.
"""

from __future__ import annotations

from e2kemu.cpu.folding import Code, FoldingValues
from e2kemu.cpu.values import PyValues

Ir = Code
"""A value: known now, or the name of an SSA value."""

_FOLD = PyValues()


def signed_text(number: int, bits: int) -> str:
    """A constant as IR text of type i<bits>."""
    number &= (1 << bits) - 1
    return str(number - (1 << bits) if number >> (bits - 1) else number)


def _container(width: int) -> int:
    """The bits of the type that values of ``width`` have."""
    return 128 if width > 64 else 64


class LlvmValues(FoldingValues):
    """Collects lines of IR."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0
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

    def as_bits(self, a: Ir, container: int) -> str:
        """``a`` as IR text of type i64 or i128; bits that do not fit are dropped."""
        if isinstance(a, int):
            return signed_text(a, container)
        have = self._widths(a)
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
            known = self.name(f"icmp ne i{self._widths(a)} {a}, 0", 1)
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
        return _container(max(map(self.width_of, values)))

    def _binary(self, operation: str, a: Ir, b: Ir, bits: int, container: int) -> str:
        """``operation`` on two values in a container, its result being at most ``bits`` wide."""
        left, right = self.as_bits(a, container), self.as_bits(b, container)
        return self.name(f"{operation} i{container} {left}, {right}", bits)

    def _modulo(self, operation: str, a: Ir, b: Ir, width: int) -> Ir:
        """An operation modulo 2**width."""
        container = _container(width)
        return self._cut(self._binary(operation, a, b, container, container), width)

    def _cut(self, a: str, width: int) -> Ir:
        """The low ``width`` bits of a name of width 64 or 128."""
        if width in (64, 128):
            return a
        container = _container(width)
        return self.name(f"and i{container} {a}, {signed_text((1 << width) - 1, container)}", width)

    # -- operations ------------------------------------------------------------------------------------

    def make_add(self, a: Ir, b: Ir, width: int) -> Ir:
        return self._modulo("add", a, b, width)

    def make_sub(self, a: Ir, b: Ir, width: int) -> Ir:
        return self._modulo("sub", a, b, width)

    def make_mul(self, a: Ir, b: Ir, width: int) -> Ir:
        return self._modulo("mul", a, b, width)

    def make_and(self, a: Ir, b: Ir, width: int) -> Ir:
        if a in self.bit and b in self.bit:
            return self.boolean(f"and i1 {self.bit[a]}, {self.bit[b]}")
        return self._binary("and", a, b, width, _container(width))

    def make_or(self, a: Ir, b: Ir, width: int) -> Ir:
        if a in self.bit and b in self.bit:
            return self.boolean(f"or i1 {self.bit[a]}, {self.bit[b]}")
        return self._binary("or", a, b, width, _container(width))

    def make_xor(self, a: Ir, b: Ir, width: int) -> Ir:
        if (a in self.bit or a == 1) and (b in self.bit or b == 1):
            return self.boolean(f"xor i1 {self.as_i1(a)}, {self.as_i1(b)}")
        return self._binary("xor", a, b, width, _container(width))

    def make_shl(self, a: Ir, count: Ir, width: int) -> Ir:
        container = _container(width)
        made = self._binary("shl", a, count, container, container)
        if not isinstance(count, int) or self.width_of(a) + count > width:
            return self._cut(made, width)
        return self._small(made, container, self.width_of(a) + count)

    def make_lshr(self, a: Ir, count: Ir, width: int) -> Ir:
        container = self._widths(a)
        return self._small(self._binary("lshr", a, count, container, container), container, width)

    def _small(self, made: str, container: int, width: int) -> str:
        """What was made in a container is known to have only ``width`` bits."""
        if width <= 64 < container:
            return self.name(f"trunc i128 {made} to i64", width)
        self.width[made] = width
        return made

    def make_ashr(self, a: Ir, count: Ir, width: int) -> Ir:
        container = _container(width)
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

    def make_udiv(self, a: Ir, b: Ir, width: int) -> Ir:
        return self.name(f"udiv i64 {self.as_bits(a, 64)}, {self._divisor(b)}", width)

    def make_urem(self, a: Ir, b: Ir, width: int) -> Ir:
        return self.name(f"urem i64 {self.as_bits(a, 64)}, {self._divisor(b)}", width)

    def _divisor(self, b: Ir) -> str:
        if isinstance(b, int):
            return signed_text(b or 1, 64)
        zero = self.name(f"icmp eq i64 {self.as_bits(b, 64)}, 0", 1)
        return self.name(f"select i1 {zero}, i64 1, i64 {self.as_bits(b, 64)}")

    def make_sdiv(self, a: Ir, b: Ir, width: int) -> Ir:
        return self._divide_signed(a, b, width)[0]

    def make_srem(self, a: Ir, b: Ir, width: int) -> Ir:
        return self._divide_signed(a, b, width)[1]

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

    def make_eq(self, a: Ir, b: Ir) -> Ir:
        for known, other in ((a, b), (b, a)):
            if known == 0 and other in self.bit:
                return self.xor(other, 1)
        container = self._widths(a, b)
        return self.boolean(f"icmp eq i{container} {self.as_bits(a, container)}, {self.as_bits(b, container)}")

    def make_ult(self, a: Ir, b: Ir) -> Ir:
        container = self._widths(a, b)
        return self.boolean(f"icmp ult i{container} {self.as_bits(a, container)}, {self.as_bits(b, container)}")

    def make_slt(self, a: Ir, b: Ir, width: int) -> Ir:
        if width in (8, 16, 32):
            return self.boolean(f"icmp slt i{width} {self.narrow(a, width)}, {self.narrow(b, width)}")
        container = _container(width)
        x, y = self._signed(a, width, container), self._signed(b, width, container)
        return self.boolean(f"icmp slt i{container} {x}, {y}")

    def make_select(self, condition: str, if_true: Ir, if_false: Ir, width: int) -> Ir:
        if (if_true, if_false) == (1, 0) and self.width_of(condition) == 1:
            return condition
        i1 = self.as_i1(condition)
        if width == 1:
            return self.boolean(f"select i1 {i1}, i1 {self.as_i1(if_true)}, i1 {self.as_i1(if_false)}")
        container = _container(width)
        a, b = self.as_bits(if_true, container), self.as_bits(if_false, container)
        return self.name(f"select i1 {i1}, i{container} {a}, i{container} {b}", width)

    def make_trunc(self, a: str, bits: int) -> Ir:
        return self.as_bits(a, 64) if bits == 64 else self.and_(a, (1 << bits) - 1)

    def make_sext(self, a: str, from_bits: int, bits: int) -> Ir:
        container = _container(bits)
        return self._cut(self._signed(a, from_bits, container), bits)

    def _llvm_function(self, name: str, a: str, container: int, tail: str = "") -> str:
        """The result of LLVM's function of one value; ``tail``: a second argument, an i1."""
        full = f"llvm.{name}.i{container}"
        self.intrinsics.add(f"declare i{container} @{full}(i{container}{', i1' if tail else ''})")
        return self.name(f"call i{container} @{full}(i{container} {self.as_bits(a, container)}{tail})", container)

    def _count_of(self, made: str, container: int) -> str:
        return made if container == 64 else self.name(f"trunc i128 {made} to i64")

    def make_clz(self, a: str, width: int) -> Ir:
        container = _container(width)
        made = self._count_of(self._llvm_function("ctlz", a, container, ", i1 false"), container)
        if width != container:
            made = self.name(f"sub i64 {made}, {container - width}")
        self.width[made] = 8
        return made

    def make_popcount(self, a: str, width: int) -> Ir:
        container = _container(max(width, self.width_of(a)))
        made = self._count_of(self._llvm_function("ctpop", a, container), container)
        self.width[made] = 8
        return made

    def make_bitreverse(self, a: str, width: int) -> Ir:
        container = _container(width)
        made = self._llvm_function("bitreverse", a, container)
        return made if width == container else self.name(f"lshr i{container} {made}, {container - width}", width)
