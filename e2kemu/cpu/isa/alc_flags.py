"""Operations that give x86 flags, and their conditions: support of binary translation (channels 0 and 3).

The suffix is the width of the x86 operation: _fb 8, _fh 16, _fw 32, _fd 64 bits. The result is a word with the
flags where EFLAGS has them (compares like ``fcmpodsf`` show that e2k uses these places); its other bits are 0.

    CF 0   PF 2   AF 4   ZF 6   SF 7   OF 11

No public source states what these operations do, and the public emulator does not have them. What is here is what x86 does for
the operation of that name; where x86 leaves a flag undefined (AF of logic, shifts and products, OF of shifts by more
than one, SF ZF PF of products) it is 0, the value for a shift by one, and that of the low half. src3 of shifts, rotates,
inc and dec are the flags before: those that x86 keeps come from there; inc adds src2 and dec subtracts it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

from e2kemu.cpu.isa.notation import ALOPF8, ALOPF11, ALOPF21, row

V = Any

CF, PF, AF, ZF, SF, OF = 0, 2, 4, 6, 7, 11
"""Bit numbers of the flags."""

ALL_FLAGS = 1 << CF | 1 << PF | 1 << AF | 1 << ZF | 1 << SF | 1 << OF

_WIDTHS = (("s_fb", 0x04, 1, 8), ("s_fh", 0x05, 1, 16), ("s_fw", 0x06, 1, 32), ("d_fd", 0x07, 3, 64))
"""Suffix, opc2, first instruction set, bits."""


def _bit(v: V, a: V, number: int) -> V:
    return v.and_(v.lshr(a, v.const(number, 64), 64), v.const(1, 64))


Flags = dict[int, V]
"""Bit number of a flag -> its one-bit value."""


def _word(v: V, *groups: Flags) -> V:
    """The word with these flags."""
    total = v.const(0, 64)
    for number, flag in chain.from_iterable(group.items() for group in groups):
        total = v.or_(total, v.shl(v.zext(flag, 64), v.const(number, 64), 64))
    return v.trunc(total, 32)


def _of_result(v: V, result: V, width: int) -> Flags:
    """ZF, SF and PF of a result of ``width`` bits."""
    low = v.and_(result, v.const(0xFF, 64))
    odd = v.and_(v.zext(v.popcount(low, 64), 64), v.const(1, 64))
    return {ZF: v.eq(result, v.const(0, 64)), SF: _bit(v, result, width - 1), PF: v.xor(odd, v.const(1, 64))}


def _narrow(v: V, a: V, width: int) -> V:
    return v.zext(v.trunc(a, width), 64)


def _logic(operation: Callable[[V, V, V], V], width: int) -> Any:
    def flags(v: V, a: V, b: V) -> V:
        return _word(v, _of_result(v, _narrow(v, operation(v, a, b), width), width))

    return flags


def _sum(v: V, a: V, b: V, width: int, *, subtract: bool) -> tuple[V, Flags]:
    """Carry apart, all flags of a sum or difference."""
    x, y = _narrow(v, a, width), _narrow(v, b, width)
    result = _narrow(v, (v.sub if subtract else v.add)(x, y, 64), width)
    carry = v.ult(x, y) if subtract else v.ult(result, x)
    signs = v.and_(v.xor(x, y), v.xor(x, result)) if subtract else v.and_(v.xor(x, result), v.xor(y, result))
    adjust = _bit(v, v.xor(v.xor(x, y), result), 4)
    return carry, {OF: _bit(v, signs, width - 1), AF: adjust, **_of_result(v, result, width)}


def _add(width: int, *, subtract: bool = False) -> Any:
    def flags(v: V, a: V, b: V) -> V:
        carry, others = _sum(v, a, b, width, subtract=subtract)
        return _word(v, {CF: carry}, others)

    return flags


def _step(width: int, *, subtract: bool) -> Any:
    """inc and dec keep CF."""

    def flags(v: V, a: V, b: V, old: V) -> V:
        _, others = _sum(v, a, b, width, subtract=subtract)
        return _word(v, {CF: v.and_(v.zext(old, 64), v.const(1, 64))}, others)

    return flags


def _product(width: int, *, signed: bool) -> Any:
    def flags(v: V, a: V, b: V) -> V:
        x, y = (v.sext(s, width, 64) if signed else _narrow(v, s, width) for s in (a, b))
        whole = v.mul(x, y, 64)
        low = _narrow(v, whole, width)
        fits = v.eq(v.sext(low, width, 64) if signed else low, whole)
        beyond = v.xor(v.zext(fits, 64), v.const(1, 64))
        return _word(v, {CF: beyond, OF: beyond}, _of_result(v, low, width))

    return flags


def _shift(width: int, kind: str) -> Any:
    def flags(v: V, a: V, b: V, old: V) -> V:
        value, one = _narrow(v, a, width), v.const(1, 64)
        count = v.and_(v.zext(v.trunc(b, 32), 64), v.const(63 if width == 64 else 31, 64))
        before = v.and_(v.sub(count, one, 64), v.const(63, 64))
        top = _bit(v, value, width - 1)
        if kind == "shl":
            result = _narrow(v, v.shl(value, count, 64), width)
            out = _bit(v, v.shl(value, before, 64), width - 1)
            overflow = v.xor(_bit(v, result, width - 1), out)
        elif kind == "shr":
            result, out, overflow = v.lshr(value, count, 64), _bit_at(v, value, before), top
        else:
            wide = v.sext(value, width, 64)
            result, out, overflow = _narrow(v, v.ashr(wide, count, 64), width), _bit_at(v, wide, before), v.const(0, 64)
        new = _word(v, {CF: out, OF: overflow}, _of_result(v, result, width))
        return _unless_zero(v, count, new, old)

    return flags


def _bit_at(v: V, a: V, number: V) -> V:
    return v.and_(v.lshr(a, number, 64), v.const(1, 64))


def _unless_zero(v: V, count: V, new: V, old: V) -> V:
    """A count of 0 changes no flag."""
    return v.select(v.eq(count, v.const(0, 64)), v.and_(old, v.const(ALL_FLAGS, 32)), new)


def _rotate(width: int, *, left: bool) -> Any:
    def flags(v: V, a: V, b: V, old: V) -> V:
        value = _narrow(v, a, width)
        masked = v.and_(v.zext(v.trunc(b, 32), 64), v.const(63 if width == 64 else 31, 64))
        count = v.and_(masked, v.const(width - 1, 64))
        rest = v.and_(v.sub(v.const(0, 64), count, 64), v.const(width - 1, 64))
        up, down = (count, rest) if left else (rest, count)
        result = _narrow(v, v.or_(v.shl(value, up, 64), v.lshr(value, down, 64)), width)
        top = _bit(v, result, width - 1)
        carry = _bit(v, result, 0) if left else top
        overflow = v.xor(top, carry if left else _bit(v, result, width - 2))
        kept = v.and_(old, v.const(ALL_FLAGS & ~(1 << CF | 1 << OF), 32))
        return _unless_zero(v, masked, v.or_(kept, _word(v, {CF: carry, OF: overflow})), old)

    return flags


def _declare(name: str, fmt: Any, cop: int, words: str, make: Callable[[int], Any],
             widths: tuple[tuple[str, int, int, int], ...] = _WIDTHS) -> None:
    """The rows of one operation in all its widths."""
    lo = 0xC0 if fmt is ALOPF11 else None
    for suffix, opc2, since, bits in widths:
        wide = bits == 64
        meaning = make(bits)
        meaning.__doc__ = f"{words} of {bits} bits: the x86 flags."
        stem = name + (suffix[1:] if name.endswith("x") else suffix)
        sources = ("DD" if wide else "SS") + ("S" if fmt is ALOPF21 else "")
        row(stem, fmt, cop + wide, sources + "S", "03", since=since, opc2=opc2, ales_lo=lo, meaning=meaning)


for _name, _cop, _operation in (
    ("and", 0x00, lambda v, a, b: v.and_(a, b)), ("andn", 0x02, lambda v, a, b: v.and_(a, v.not_(b))),
    ("or", 0x04, lambda v, a, b: v.or_(a, b)), ("orn", 0x06, lambda v, a, b: v.or_(a, v.not_(b))),
    ("xor", 0x08, lambda v, a, b: v.xor(a, b)), ("xorn", 0x0A, lambda v, a, b: v.xor(a, v.not_(b))),
):
    _declare(_name, ALOPF11, _cop, f"Bitwise {_name}",
             lambda width, operation=_operation: _logic(operation, width))  # type: ignore[misc]

_declare("add", ALOPF11, 0x10, "Add", _add)
_declare("sub", ALOPF11, 0x12, "Subtract", lambda width: _add(width, subtract=True))
_declare("umulx", ALOPF11, 0x22, "Unsigned product", lambda width: _product(width, signed=False), _WIDTHS[:3])
_declare("smulx", ALOPF11, 0x23, "Signed product", lambda width: _product(width, signed=True), _WIDTHS[:3])
_declare("scl", ALOPF21, 0x14, "Rotate left", lambda width: _rotate(width, left=True))
_declare("scr", ALOPF21, 0x16, "Rotate right", lambda width: _rotate(width, left=False))
_declare("shl", ALOPF21, 0x18, "Shift left", lambda width: _shift(width, "shl"))
_declare("shr", ALOPF21, 0x1A, "Logical shift right", lambda width: _shift(width, "shr"))
_declare("sar", ALOPF21, 0x1C, "Arithmetic shift right", lambda width: _shift(width, "sar"))
_declare("inc", ALOPF21, 0x30, "Add without the carry", lambda width: _step(width, subtract=False))
_declare("dec", ALOPF21, 0x32, "Subtract without the carry", lambda width: _step(width, subtract=True))


def _condition(name: str) -> Any:
    def condition(v: V, flags: V) -> V:
        def flag(number: int) -> V:
            return v.and_(v.lshr(flags, v.const(number, 32), 32), v.const(1, 32))

        less = v.xor(flag(SF), flag(OF))
        found = {"o": flag(OF), "b": flag(CF), "e": flag(ZF), "be": v.or_(flag(CF), flag(ZF)), "s": flag(SF),
                 "p": flag(PF), "l": less, "le": v.or_(less, flag(ZF))}[name]
        return v.trunc(found, 1)

    return condition


for _code, (_name, _words) in enumerate((
    ("o", "OF"), ("b", "CF"), ("e", "ZF"), ("be", "CF or ZF"), ("s", "SF"), ("p", "PF"), ("l", "SF is not OF"),
    ("le", "ZF, or SF is not OF"),
)):
    _meaning = _condition(_name)
    _meaning.__doc__ = f"The predicate: {_words} in the x86 flags src2."
    row(f"cctop{_name}", ALOPF8, 0x24, "SB", "03", cmpopce=_code, nops=2, meaning=_meaning)
