"""Floating point in regions: the host's arithmetic where it gives what ``cpu/fp`` says, the reference tier elsewhere.

A primitive is computed here when rounding is to nearest and the inexact exception is masked (looked at once, when a
region is entered), and operands and result are zero or normal. Then the result is the host's, and the only
flag is inexact, found by computing what was lost, exactly:

    sum         Knuth's two-sum               product, quotient, root of doubles     one fused multiplication
    singles     the same in double, which holds products, remainders and squares of singles exactly

When the flag is set already at entry it cannot change and is not computed. NaNs, infinities, denormals and results
that may be denormal are ``Status.STEP``. Primitives without an entry in ``_EMITTERS``, and all of them while PFPFR
is not as above, are asked of ``cpu/fp`` itself (``Word.FP``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from e2kemu.cpu.fp import OPERATIONS, FpOperation
from e2kemu.cpu.fp import machine as fp_machine
from e2kemu.cpu.native.layout import Word
from e2kemu.cpu.native.values import Ir, LlvmValues

CONTROL, RESULT = 6, 7
"""Where in ``Word.OPERANDS`` the control register and the result are."""

NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}
"""Primitive -> its number for ``Word.FP``."""

STICKY, MASKED, ROUNDING = 0x20, 0x1000, 0x6000
"""PFPFR: inexact was seen, is masked; rounding mode."""


@dataclass(frozen=True, slots=True)
class _Format:
    ir: str
    bits: int
    fraction: int       # bits of the stored fraction
    infinity: int       # bits of +infinity
    safe: int           # biased exponent from which on remainders do not underflow

    @property
    def magnitude(self) -> int:
        return (1 << self.bits - 1) - 1


_D = _Format("double", 64, 52, 0x7FF << 52, 128)
_S = _Format("float", 32, 23, 0xFF << 23, 2)
_FORMATS = {"d": _D, "s": _S}

Emitted = tuple[Ir, Ir]
"""A result and whether it is inexact (a bit)."""


class Floating(LlvmValues):
    """The part of a region machine that does floating point."""

    uses_floating = False
    """A primitive was met: the region is for PFPFR and UPSR as observed."""
    floating_sticky = False
    """The region is only entered with the inexact flag set."""
    floating_allowed = True
    """PFPFR was fit when the region was asked for."""

    floating_asks = True
    """What has no way here is asked of Python; otherwise it is for the reference tier."""

    def __init__(self) -> None:
        super().__init__()
        self._harmless: set[Ir] = {0}
        """Flags that no exception goes with."""

    if TYPE_CHECKING:
        def step_if_not(self, i1: str) -> None: ...
        def unsupported(self, why: str) -> NoReturn: ...
        def _to_step(self) -> NoReturn: ...

    def fp(self, name: str, *operands: Ir) -> Ir:
        result: Ir = fp_machine.perform(self, name, operands)
        return result

    def fp_enabled(self) -> None:
        self.uses_floating = True

    def fp_primitive(self, operation: FpOperation, operands: tuple[Ir, ...], control: Ir) -> Emitted:
        stem, _, rest = operation.name.partition(".")
        emitter = _EMITTERS.get(stem)
        if emitter is None or rest.startswith("x") or ".x" in rest or not self.floating_allowed or (
                emitter in _FUSED and not self.floating_sticky):
            if not self.floating_asks:
                self.unsupported(operation.name)
            return self._asked(operation, operands, control)
        value, inexact = emitter(self, rest, operands)
        flags = 0 if self.floating_sticky else self.shl(inexact, 5, 64)
        self._harmless.add(flags)
        return value, flags

    def fp_raised(self, flags: Ir, control: Ir, shift: int) -> Ir:
        if flags in self._harmless:
            return 0
        masks = self.lshr(control, shift)
        return self.xor(self.eq(self.and_(self.and_(flags, self.not_(masks, 64)), 63), 0), 1)

    def fp_trap(self, number: int, flags: Ir) -> NoReturn:
        self._to_step()

    def _asked(self, operation: FpOperation, operands: tuple[Ir, ...], control: Ir) -> tuple[Ir, Ir]:
        """A primitive of ``cpu/fp``, by way of Python."""
        for index, operand in enumerate(operands):
            for half in range(1 + (operation.operands[index] > 64)):
                self._put_word(2 * index + half, self.lshr(operand, 64) if half else self.trunc(operand, 64))
        self._put_word(CONTROL, control)
        function = self.name(f"load i64, ptr {self._word(Word.FP)}")
        pointer = self.name(f"inttoptr i64 {function} to ptr")
        # handed the context, or LLVM would take it that nobody else writes there
        flags = self.name(f"call i64 {pointer}(i64 {NUMBERS[operation.name]}, ptr %c)", 8)
        result: Ir = self.name(f"load i64, ptr {self._word(Word.OPERANDS + RESULT)}", min(operation.result, 64))
        if operation.result > 64:
            high = self.name(f"load i64, ptr {self._word(Word.OPERANDS + RESULT + 1)}", operation.result - 64)
            result = self.or_(result, self.shl(high, 64, 128))
        return result, flags

    def _word(self, number: int) -> str:
        return self.name(f"getelementptr i64, ptr %c, i64 {number}")

    def _put_word(self, number: int, value: Ir) -> None:
        self.emit(f"store i64 {self.as_bits(value, 64)}, ptr {self._word(Word.OPERANDS + number)}")

    # -- pieces ------------------------------------------------------------------------------------------

    def _number(self, a: Ir, f: _Format) -> str:
        """The bits ``a`` as a number of the format."""
        return self.name(f"bitcast i{f.bits} {self.narrow(a, f.bits)} to {f.ir}")

    def _bits(self, number: str, f: _Format) -> str:
        """The bits of a number, as a value."""
        raw = self.name(f"bitcast {f.ir} {number} to i{f.bits}")
        return raw if f.bits == 64 else self.name(f"zext i32 {raw} to i64", 32)

    def _magnitude(self, a: Ir, f: _Format) -> str:
        return self.name(f"and i64 {self.as_bits(a, 64)}, {f.magnitude}")

    def _zero(self, magnitude: str) -> str:
        return self.name(f"icmp eq i64 {magnitude}, 0", 1)

    def _not_denormal(self, a: Ir, f: _Format) -> str:
        """i1: zero, normal, infinite or no number."""
        magnitude = self._magnitude(a, f)
        large = self.name(f"icmp uge i64 {magnitude}, {1 << f.fraction}", 1)
        return self.name(f"or i1 {large}, {self._zero(magnitude)}", 1)

    def _between(self, magnitude: str, exponent: int, f: _Format) -> str:
        """i1: finite, with a biased exponent of at least ``exponent``."""
        least = exponent << f.fraction
        return self.name(f"icmp ult i64 {self.name(f'sub i64 {magnitude}, {least}')}, {f.infinity - least}", 1)

    def _all(self, *conditions: str) -> str:
        whole = conditions[0]
        for condition in conditions[1:]:
            whole = self.name(f"and i1 {whole}, {condition}", 1)
        return whole

    def _any(self, *conditions: str) -> str:
        whole = conditions[0]
        for condition in conditions[1:]:
            whole = self.name(f"or i1 {whole}, {condition}", 1)
        return whole

    def _widened(self, number: str, f: _Format) -> str:
        return number if f is _D else self.name(f"fpext float {number} to double")

    def _intrinsic(self, name: str, ir: str, *arguments: str) -> str:
        suffix = "f64" if ir == "double" else "f32"
        self.intrinsics.add(f"declare {ir} @llvm.{name}.{suffix}({', '.join([ir] * len(arguments))})")
        return self.name(f"call {ir} @llvm.{name}.{suffix}({', '.join(f'{ir} {a}' for a in arguments)})")

    def _differs(self, a: str, b: str, ir: str = "double") -> Ir:
        return 0 if self.floating_sticky else self.boolean(f"fcmp une {ir} {a}, {b}")

    # -- arithmetic --------------------------------------------------------------------------------------

    def _sum(self, f: _Format, operation: str, operands: tuple[Ir, ...]) -> Emitted:
        a, b = operands
        x, y = self._number(a, f), self._number(b, f)
        if operation == "fsub":
            y = self.name(f"fneg {f.ir} {y}")
        total = self.name(f"fadd {f.ir} {x}, {y}")
        bits = self._bits(total, f)
        magnitude = self._magnitude(bits, f)
        fits = self._any(self._between(magnitude, 2, f), self._zero(magnitude))
        self.step_if_not(self._all(fits, self._not_denormal(a, f), self._not_denormal(b, f)))
        if self.floating_sticky:
            return bits, 0
        part = self.name(f"fsub {f.ir} {total}, {x}")
        rest = self.name(f"fsub {f.ir} {total}, {part}")
        first = self.name(f"fsub {f.ir} {x}, {rest}")
        second = self.name(f"fsub {f.ir} {y}, {part}")
        lost = self.name(f"fadd {f.ir} {first}, {second}")
        return bits, self._differs(lost, "0.0", f.ir)

    def _product(self, f: _Format, operands: tuple[Ir, ...]) -> Emitted:
        a, b = operands
        x, y = self._number(a, f), self._number(b, f)
        product = self.name(f"fmul {f.ir} {x}, {y}")
        bits = self._bits(product, f)
        magnitude = self._magnitude(bits, f)
        with_zero = self._any(self._zero(self._magnitude(a, f)), self._zero(self._magnitude(b, f)))
        nothing = self._all(self._zero(magnitude), with_zero)
        fits = self._any(self._between(magnitude, 2 if self.floating_sticky else f.safe, f), nothing)
        self.step_if_not(self._all(fits, self._not_denormal(a, f), self._not_denormal(b, f)))
        return bits, self._is_no_product(product, x, y, f)

    def _quotient(self, f: _Format, operands: tuple[Ir, ...]) -> Emitted:
        a, b = operands
        x, y = self._number(a, f), self._number(b, f)
        quotient = self.name(f"fdiv {f.ir} {x}, {y}")
        bits = self._bits(quotient, f)
        above, magnitude = self._magnitude(a, f), self._magnitude(bits, f)
        usual = self._all(self._between(magnitude, f.safe, f), self._between(above, f.safe, f))
        nothing = self._all(self._zero(above), self._zero(magnitude))
        self.step_if_not(self._all(self._any(usual, nothing), self._not_denormal(b, f)))
        return bits, self._is_no_product(x, quotient, y, f)

    def _root(self, f: _Format, operands: tuple[Ir, ...]) -> Emitted:
        (a,) = operands
        x = self._number(a, f)
        root = self._intrinsic("sqrt", f.ir, x)
        # the whole pattern: a sign makes it too large
        self.step_if_not(self._between(self.as_bits(a, 64), f.safe, f))
        return self._bits(root, f), self._is_no_product(x, root, root, f)

    def _is_no_product(self, of: str, x: str, y: str, f: _Format) -> Ir:
        """Whether ``of`` is not exactly ``x * y``: the inexact flag, if anybody looks at it."""
        if self.floating_sticky:
            return 0
        if f is _S:
            exact = self.name(f"fmul double {self._widened(x, f)}, {self._widened(y, f)}")
            return self._differs(exact, self._widened(of, f))
        lost = self._intrinsic("fma", "double", x, y, self.name(f"fneg double {of}"))
        return self._differs(lost, "0.0")

    def _fused(self, f: _Format, operands: tuple[Ir, ...], product: bool, addend: bool) -> Emitted:
        x, y, z = (self._number(a, f) for a in operands)
        if product:
            x = self.name(f"fneg {f.ir} {x}")
        if addend:
            z = self.name(f"fneg {f.ir} {z}")
        bits = self._bits(self._intrinsic("fma", f.ir, x, y, z), f)
        fits = self._between(self._magnitude(bits, f), 2, f)
        self.step_if_not(self._all(fits, *(self._not_denormal(a, f) for a in operands)))
        return bits, 0

    def _least(self, f: _Format, operands: tuple[Ir, ...], relation: str) -> Emitted:
        a, b = operands
        x, y = self._number(a, f), self._number(b, f)
        self._ordered(f, a, b, x, y)
        return self.select(self.boolean(f"fcmp {relation} {f.ir} {x}, {y}"), a, b), 0

    # -- compares ----------------------------------------------------------------------------------------

    def _ordered(self, f: _Format, a: Ir, b: Ir, x: str, y: str) -> None:
        """No NaN and no denormal number among them, or leave."""
        ordered = self.name(f"fcmp ord {f.ir} {x}, {y}", 1)
        self.step_if_not(self._all(ordered, self._not_denormal(a, f), self._not_denormal(b, f)))

    def _compare(self, f: _Format, operands: tuple[Ir, ...], relation: str) -> Emitted:
        a, b = operands
        x, y = self._number(a, f), self._number(b, f)
        self._ordered(f, a, b, x, y)
        if relation in ("od", "uod"):
            return int(relation == "od"), 0
        return self.boolean(f"fcmp {_RELATIONS[relation]} {f.ir} {x}, {y}"), 0

    def _order(self, f: _Format, operands: tuple[Ir, ...]) -> Emitted:
        x, y = (self._number(a, f) for a in operands)
        less = self.select(self.boolean(f"fcmp olt {f.ir} {x}, {y}"), 1, 0)
        code = self.select(self.boolean(f"fcmp oeq {f.ir} {x}, {y}"), 0x40, less)
        return self.select(self.boolean(f"fcmp uno {f.ir} {x}, {y}"), 0x45, code), 0

    # -- conversions -------------------------------------------------------------------------------------

    def _from_integer(self, size: int, f: _Format, a: Ir) -> Emitted:
        number = self.narrow(a, size)
        made = self.name(f"sitofp i{size} {number} to {f.ir}")
        bits = self._bits(made, f)
        if self.floating_sticky or (size == 32 and f is _D):
            return bits, 0
        if size == 32:
            exact = self.name(f"sitofp i32 {number} to double")
            return bits, self._differs(exact, self._widened(made, f))
        suffix = "f64" if f is _D else "f32"
        self.intrinsics.add(f"declare i64 @llvm.fptosi.sat.i64.{suffix}({f.ir})")
        back = self.name(f"call i64 @llvm.fptosi.sat.i64.{suffix}({f.ir} {made})")
        changed = self.boolean(f"icmp ne i64 {back}, {number}")
        # 2**63 itself came back as the largest integer
        return bits, self.or_(changed, self.boolean(f"fcmp oge {f.ir} {made}, 0x43E0000000000000"))

    def _to_integer(self, f: _Format, size: int, truncate: bool, a: Ir) -> Emitted:
        x = self._widened(self._number(a, f), f)
        magnitude = self._intrinsic("fabs", "double", x)
        # 2**31, 2**63; rounded by an addition below 2**51, and a half below the largest integer of 32 bits
        limit = ("0x41DFFFFFFFC00000", "0x4320000000000000")
        if truncate:
            limit = ("0x41E0000000000000", "0x43E0000000000000")
        self.step_if_not(self.name(f"fcmp olt double {magnitude}, {limit[size == 64]}", 1))
        source = x
        if not truncate:
            moved = self.name(f"fadd double {x}, 0x4338000000000000")
            source = self.name(f"fsub double {moved}, 0x4338000000000000")
        whole = self.name(f"fptosi double {source} to i{size}")
        inexact = self._differs(self.name(f"sitofp i{size} {whole} to double"), x)
        return (whole if size == 64 else self.name(f"zext i32 {whole} to i64", 32)), inexact

    def _convert(self, rest: str, operands: tuple[Ir, ...]) -> Emitted:
        source, target, *more = rest.split(".")
        (a,) = operands
        if source[0] == "i":
            return self._from_integer(int(source[1:]), _FORMATS[target], a)
        if target[0] == "i":
            return self._to_integer(_FORMATS[source], int(target[1:]), bool(more), a)
        f, g = _FORMATS[source], _FORMATS[target]
        x = self._number(a, f)
        if f is _S:
            magnitude = self._magnitude(a, f)
            self.step_if_not(self._any(self._between(magnitude, 1, f), self._zero(magnitude)))
            return self._bits(self.name(f"fpext float {x} to double"), g), 0
        short = self.name(f"fptrunc double {x} to float")
        bits = self._bits(short, g)
        magnitude = self._magnitude(bits, g)
        nothing = self._all(self._zero(magnitude), self._zero(self._magnitude(a, f)))
        self.step_if_not(self._any(self._between(magnitude, 2, g), nothing))
        return bits, self._differs(self._widened(short, g), x)


_RELATIONS = {"eq": "oeq", "lt": "olt", "le": "ole", "neq": "one", "nlt": "oge", "nle": "ogt"}
"""Relation -> fcmp, once nothing is unordered."""

Emitter = Callable[[Floating, str, "tuple[Ir, ...]"], Emitted]


def _f(rest: str) -> _Format:
    return _FORMATS[rest.split(".")[-1]]


def _fusing(product: bool, addend: bool) -> Emitter:
    return lambda m, rest, operands: m._fused(_FORMATS[rest[0]], operands, product, addend)


_EMITTERS: dict[str, Emitter] = {
    "add": lambda m, rest, operands: m._sum(_f(rest), "fadd", operands),
    "sub": lambda m, rest, operands: m._sum(_f(rest), "fsub", operands),
    "mul": lambda m, rest, operands: m._product(_f(rest), operands),
    "div": lambda m, rest, operands: m._quotient(_f(rest), operands),
    "sqrt": lambda m, rest, operands: m._root(_f(rest), operands),
    "min": lambda m, rest, operands: m._least(_f(rest), operands, "olt"),
    "max": lambda m, rest, operands: m._least(_f(rest), operands, "ogt"),
    "cmp": lambda m, rest, operands: m._compare(_f(rest), operands, rest.split(".")[0]),
    "order": lambda m, rest, operands: m._order(_f(rest), operands),
    "cvt": lambda m, rest, operands: m._convert(rest, operands),
    "fma": _fusing(False, False),
    "fms": _fusing(False, True),
    "fnma": _fusing(True, False),
    "fnms": _fusing(True, True),
}
_FUSED = [_EMITTERS[name] for name in ("fma", "fms", "fnma", "fnms")]
"""What these lose cannot be computed: they are done here when the flag is set already."""
