"""Floating-point numbers of 32, 64 and 80 bits as Python integers: taking them apart, rounding, putting them together.

A finite number is ``(-1)**sign * significand * 2**exponent`` with an integer significand: exact, of any length.
Rounding is done once, at the end of an operation, from such an exact number (or from one whose lowest bit stands
for everything below it, when it has at least three bits more than the result).

The 80-bit format has its integer bit in the significand. Its encodings without one (unnormals, pseudo-NaNs,
pseudo-infinities) are INVALID operands, as for x87 since the 387; a zero exponent with the integer bit
(pseudo-denormal) is the number it looks like.

Tininess is detected after rounding, as x86 does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32
"""Flags: invalid operation, denormal operand, division by zero, overflow, underflow, inexact."""

NEAREST, DOWN, UP, TO_ZERO = range(4)
"""Rounding modes as PFPFR.rc and FPCR.rc have them."""

ZERO, FINITE, INFINITE, QUIET, SIGNALLING, INVALID = range(6)
"""Kinds of numbers; from QUIET on they are not numbers."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format: ``precision`` counts the integer bit; ``explicit`` tells that this is stored."""

    letter: str
    bits: int
    precision: int
    bias: int
    explicit: bool = False

    @property
    def least_exponent(self) -> int:
        """Exponent of the lowest bit of the least numbers."""
        return 2 - self.bias - self.precision

    @property
    def infinity(self) -> int:
        stored = self.precision - (0 if self.explicit else 1)
        return (2 * self.bias + 1) << stored | (1 << 63 if self.explicit else 0)

    @property
    def default_nan(self) -> int:
        """The result of an invalid operation: quiet and negative."""
        return 1 << (self.bits - 1) | self.infinity | 1 << (self.precision - 2)


S = Format("s", 32, 24, 127)
D = Format("d", 64, 53, 1023)
X = Format("x", 80, 64, 16383, explicit=True)
FORMATS = {f.letter: f for f in (S, D, X)}


class Number(NamedTuple):
    """A number taken apart. Of a NaN ``significand`` is the payload, with the quiet bit at the top of the fraction."""

    kind: int
    sign: int
    exponent: int
    significand: int
    denormal: bool
    bits: int


class Mode(NamedTuple):
    """What an operation wants to know of the control register."""

    rounding: int
    precision: int
    """Bits of the significand that results in the 80-bit format are rounded to."""
    flush: bool
    """Tiny results become zero."""
    underflow_traps: bool
    """The underflow exception is not masked: also an exact tiny result raises it."""


_pfpfr: dict[int, Mode] = {}
_fpcr: dict[int, Mode] = {}


def pfpfr_mode(value: int) -> Mode:
    """The mode that PFPFR says: rounding 14:13, flush to zero 15 where underflow (mask in 11) does not trap."""
    found = _pfpfr.get(value & 0xE800)
    if found is None:
        traps = not value & 0x800
        found = _pfpfr[value & 0xE800] = Mode(value >> 13 & 3, 64, bool(value & 0x8000) and not traps, traps)
    return found


def fpcr_mode(value: int) -> Mode:
    """The mode that FPCR says: rounding in bits 11:10, precision of 80-bit results in 9:8, underflow mask in 4."""
    found = _fpcr.get(value & 0xF10)
    if found is None:
        precision = (24, 64, 53, 64)[value >> 8 & 3]
        found = _fpcr[value & 0xF10] = Mode(value >> 10 & 3, precision, False, not value & 0x10)
    return found


def unpack(f: Format, bits: int) -> Number:
    """Take a number apart."""
    if f.explicit:
        return _unpack80(bits)
    stored = f.precision - 1
    sign = bits >> (f.bits - 1)
    biased = bits >> stored & (2 * f.bias + 1)
    fraction = bits & (1 << stored) - 1
    if biased == 2 * f.bias + 1:
        if not fraction:
            return Number(INFINITE, sign, 0, 0, False, bits)
        return Number(QUIET if fraction >> (stored - 1) else SIGNALLING, sign, 0, fraction, False, bits)
    if not biased:
        if not fraction:
            return Number(ZERO, sign, 0, 0, False, bits)
        return Number(FINITE, sign, f.least_exponent, fraction, True, bits)
    return Number(FINITE, sign, biased - 1 + f.least_exponent, fraction | 1 << stored, False, bits)


def _unpack80(bits: int) -> Number:
    sign, biased, significand = bits >> 79, bits >> 64 & 0x7FFF, bits & 0xFFFF_FFFF_FFFF_FFFF
    if not biased:
        if not significand:
            return Number(ZERO, sign, 0, 0, False, bits)
        return Number(FINITE, sign, X.least_exponent, significand, True, bits)
    if not significand >> 63:
        return Number(INVALID, sign, 0, 0, False, bits)
    if biased == 0x7FFF:
        fraction = significand & 0x7FFF_FFFF_FFFF_FFFF
        if not fraction:
            return Number(INFINITE, sign, 0, 0, False, bits)
        return Number(QUIET if fraction >> 62 else SIGNALLING, sign, 0, fraction, False, bits)
    return Number(FINITE, sign, biased - 1 + X.least_exponent, significand, False, bits)


def quieted(f: Format, bits: int) -> int:
    """A NaN, quiet."""
    return bits | 1 << (f.precision - 2)


def zero(f: Format, sign: int) -> int:
    return sign << (f.bits - 1)


def infinity(f: Format, sign: int) -> int:
    return sign << (f.bits - 1) | f.infinity


def increments(rounding: int, sign: int, odd: int, rest: int, half: int) -> bool:
    """Whether the magnitude is rounded up: ``rest`` below the last place, of which ``half`` is the half."""
    if not rest:
        return False
    if rounding == NEAREST:
        return rest > half or (rest == half and bool(odd))
    return rounding == (DOWN if sign else UP)


def rounded_shift(significand: int, shift: int, rounding: int, sign: int) -> tuple[int, bool]:
    """``significand / 2**shift`` as an integer, rounded; and whether anything was lost."""
    if shift <= 0:
        return significand << -shift, False
    whole, rest = significand >> shift, significand & (1 << shift) - 1
    if increments(rounding, sign, whole & 1, rest, 1 << (shift - 1)):
        whole += 1
    return whole, rest != 0


def pack(f: Format, sign: int, significand: int, exponent: int, mode: Mode, precision: int = 0) -> tuple[int, int]:
    """Round ``significand * 2**exponent`` (not zero) to the format; the bits and the flags.

    ``precision``: bits of the result, when fewer than the format has.
    """
    precision = precision or f.precision
    least = f.least_exponent + f.precision - precision
    length = significand.bit_length()
    last = exponent + length - precision            # exponent of the last place, if the range had no end
    tiny = last < least
    if tiny and last == least - 1:
        # rounded up to the least normal number it is not tiny
        whole, _ = rounded_shift(significand, length - precision, mode.rounding, sign)
        tiny = not whole >> precision
    place = max(last, least)
    whole, inexact = rounded_shift(significand, place - exponent, mode.rounding, sign)
    top = sign << (f.bits - 1)
    if tiny and (inexact or mode.underflow_traps or mode.flush):
        if mode.flush:
            return top, UE | PE
        return top | _encoded(f, whole, place, precision), UE | (PE if inexact else 0)
    bits = _encoded(f, whole, place, precision)
    if bits >= f.infinity:
        away = mode.rounding == NEAREST or mode.rounding == (DOWN if sign else UP)
        if away:
            return top | f.infinity, OE | PE
        biggest = _encoded(f, (1 << precision) - 1, f.bias - precision + 1, precision)
        return top | biggest, OE | PE
    return top | bits, PE if inexact else 0


def _encoded(f: Format, whole: int, place: int, precision: int) -> int:
    """The bits of ``whole * 2**place`` without sign; from infinity on when it is too large."""
    whole <<= f.precision - precision
    place -= f.precision - precision
    if not f.explicit:
        return (place - f.least_exponent << (f.precision - 1)) + whole
    if whole >> 64:
        whole, place = whole >> 1, place + 1
    if not whole >> 63:
        return whole
    biased = place - f.least_exponent + 1
    return f.infinity if biased >= 0x7FFF else biased << 64 | whole
