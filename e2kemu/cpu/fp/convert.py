"""Conversions between integers and floating point, among the formats, and to integers in floating point."""

from __future__ import annotations

from e2kemu.cpu.fp.arithmetic import Result, nan_result
from e2kemu.cpu.fp.formats import (
    DE,
    FINITE,
    IE,
    INFINITE,
    INVALID,
    PE,
    QUIET,
    SIGNALLING,
    TO_ZERO,
    ZERO,
    Format,
    Mode,
    infinity,
    pack,
    rounded_shift,
    unpack,
    zero,
)


def from_integer(f: Format, a: int, size: int, mode: Mode) -> Result:
    """The signed integer ``a`` of ``size`` bits."""
    number = (a ^ 1 << (size - 1)) - (1 << (size - 1))
    if not number:
        return 0, 0
    return pack(f, int(number < 0), abs(number), 0, mode)


def to_integer(f: Format, a: int, size: int, mode: Mode, truncate: bool = False) -> Result:
    """A signed integer of ``size`` bits; the least one, invalid, for what does not fit."""
    x = unpack(f, a)
    indefinite = 1 << (size - 1)
    if x.kind == ZERO:
        return 0, 0
    if x.kind != FINITE or x.exponent > size:
        return indefinite, IE
    rounding = TO_ZERO if truncate else mode.rounding
    whole, inexact = rounded_shift(x.significand, -x.exponent, rounding, x.sign)
    if whole > indefinite - (not x.sign):
        return indefinite, IE
    return (-whole if x.sign else whole) & (1 << size) - 1, PE if inexact else 0


def convert(source: Format, target: Format, a: int, mode: Mode) -> Result:
    """A number of one format in another."""
    x = unpack(source, a)
    if x.kind >= QUIET:
        if x.kind == INVALID:
            return target.default_nan, IE
        shift = target.precision - source.precision
        payload = x.significand << shift if shift >= 0 else x.significand >> -shift
        bits = infinity(target, x.sign) | payload | 1 << (target.precision - 2)
        return bits, IE if x.kind == SIGNALLING else 0
    if x.kind == INFINITE:
        return infinity(target, x.sign), 0
    if x.kind == ZERO:
        return zero(target, x.sign), 0
    bits, flags = pack(target, x.sign, x.significand, x.exponent, mode)
    # as x87 does: a load looks at its operand, a store does not
    return bits, flags | (DE if x.denormal and not source.explicit else 0)


def to_whole(f: Format, selector: int, a: int, mode: Mode) -> Result:
    """An integer in floating point.

    ``selector``: rounding mode in bits 1:0 unless bit 2 asks for the current one; bit 3 keeps inexact quiet.
    """
    x = unpack(f, a)
    if x.kind >= QUIET:
        return nan_result(f, x)
    if x.kind != FINITE or x.exponent >= 0:
        return a, 0
    rounding = mode.rounding if selector & 4 else selector & 3
    whole, inexact = rounded_shift(x.significand, -x.exponent, rounding, x.sign)
    flags = PE if inexact and not selector & 8 else 0
    if not whole:
        return zero(f, x.sign), flags
    return pack(f, x.sign, whole, 0, mode)[0], flags
