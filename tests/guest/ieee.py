"""IEEE 754 by the definition: what an operation on numbers of 32, 64 and 80 bits gives, and its flags.

Finite results are exact fractions, rounded once (``tests.cpu.fp.exact``); what infinities, zeros and NaNs do is written
down here. ``test_values.py`` compares this with numpy. The flags are those of x86 (docs/semantics.md).
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from tests.cpu.fp.exact import DE, DOWN, IE, NEAREST, PE, SHAPES, WIDTH, ZE, decode, encode, infinity, rounded

FRACTION_BITS = {"s": 23, "d": 52, "x": 63}
Result = tuple[int, int]


def sign_of(letter: str, bits: int) -> int:
    return bits >> WIDTH[letter] - 1


def exponent_of(letter: str, bits: int) -> int:
    """The biased exponent."""
    stored = FRACTION_BITS[letter] + (letter == "x")
    return bits >> stored & (1 << WIDTH[letter] - 1 - stored) - 1


def fraction_of(letter: str, bits: int) -> int:
    return bits & (1 << FRACTION_BITS[letter]) - 1


def _top(letter: str, bits: int) -> bool:
    return exponent_of(letter, bits) == 2 * SHAPES[letter][2] + 1


def is_nan(letter: str, bits: int) -> bool:
    return _top(letter, bits) and fraction_of(letter, bits) != 0


def is_signalling(letter: str, bits: int) -> bool:
    return is_nan(letter, bits) and not bits >> FRACTION_BITS[letter] - 1 & 1


def is_infinite(letter: str, bits: int) -> bool:
    return _top(letter, bits) and fraction_of(letter, bits) == 0


def is_zero(letter: str, bits: int) -> bool:
    return exponent_of(letter, bits) == 0 and fraction_of(letter, bits) == 0 and not (letter == "x" and bits >> 63 & 1)


def is_denormal(letter: str, bits: int) -> bool:
    return exponent_of(letter, bits) == 0 and not is_zero(letter, bits)


def zero(letter: str, sign: int) -> int:
    return sign << WIDTH[letter] - 1


def default_nan(letter: str) -> int:
    """Quiet, negative, without payload."""
    return infinity(letter, 1) | 1 << FRACTION_BITS[letter] - 1


def quiet(letter: str, bits: int) -> int:
    return bits | 1 << FRACTION_BITS[letter] - 1


def widened(source: str, target: str, bits: int) -> int:
    """The same number, infinity or (quiet) NaN in a wider format."""
    sign = sign_of(source, bits)
    if is_infinite(source, bits):
        return infinity(target, sign)
    if is_nan(source, bits):
        moved = fraction_of(source, bits) << FRACTION_BITS[target] - FRACTION_BITS[source]
        return infinity(target, sign) | moved
    if is_zero(source, bits):
        return zero(target, sign)
    return encode(target, sign, abs(decode(source, bits)))


def _rounded(letter: str, value: Fraction, mode: int, precision: int, sign_of_zero: int) -> Result:
    return rounded(letter, value, mode, precision) if value else (zero(letter, sign_of_zero), 0)


def _denormals(letter: str, *numbers: int) -> int:
    return DE if any(is_denormal(letter, number) for number in numbers) else 0


def arithmetic(kind: str, letter: str, a: int, b: int, mode: int, precision: int = 0) -> Result:
    """add, sub, mul, div: the result and the flags. Of NaNs there is one at most."""
    nans = [number for number in (a, b) if is_nan(letter, number)]
    if nans:
        return quiet(letter, nans[0]), IE if is_signalling(letter, nans[0]) else 0
    if kind == "sub":
        b ^= 1 << WIDTH[letter] - 1
    first, second = sign_of(letter, a), sign_of(letter, b)
    infinite, zeros = [is_infinite(letter, n) for n in (a, b)], [is_zero(letter, n) for n in (a, b)]
    denormal = _denormals(letter, a, b)
    if kind in ("add", "sub"):
        if any(infinite):
            return (default_nan(letter), IE) if all(infinite) and first != second else (
                infinity(letter, first if infinite[0] else second), denormal)
        value = decode(letter, a) + decode(letter, b)
        sign = first if all(zeros) and first == second else int(mode == DOWN)
    elif kind == "mul":
        if any(infinite):
            return (default_nan(letter), IE) if any(zeros) else (infinity(letter, first ^ second), denormal)
        value, sign = decode(letter, a) * decode(letter, b), first ^ second
    else:
        if all(infinite) or all(zeros):
            return default_nan(letter), IE
        if infinite[0]:
            return infinity(letter, first ^ second), denormal
        if zeros[1]:
            return infinity(letter, first ^ second), ZE
        value, sign = Fraction(0) if infinite[1] else decode(letter, a) / decode(letter, b), first ^ second
    bits, flags = _rounded(letter, value, mode, precision, sign)
    return bits, flags | denormal


def fused(letter: str, a: int, b: int, c: int, mode: int, *, negate: bool, subtract: bool) -> Result:
    """+-(a * b) +- c of finite numbers, rounded once."""
    product = decode(letter, a) * decode(letter, b) * (-1 if negate else 1)
    addend = decode(letter, c) * (-1 if subtract else 1)
    signs = sign_of(letter, a) ^ sign_of(letter, b) ^ negate, sign_of(letter, c) ^ subtract
    sign = signs[0] if not product and not addend and signs[0] == signs[1] else int(mode == DOWN)
    bits, flags = _rounded(letter, product + addend, mode, 0, sign)
    return bits, flags | _denormals(letter, a, b, c)


def square_root(letter: str, a: int, mode: int, precision: int = 0) -> Result:
    """Of any number."""
    if is_nan(letter, a):
        return quiet(letter, a), IE if is_signalling(letter, a) else 0
    if is_zero(letter, a):
        return a, 0
    if sign_of(letter, a):
        return default_nan(letter), IE
    if is_infinite(letter, a):
        return a, 0
    value = decode(letter, a)
    # enough bits of the root that the rest decides only on which side of it the root lies
    scaled = value * Fraction(4) ** 20000 if value < 1 else value * Fraction(4) ** 200
    power = 20000 if value < 1 else 200
    whole = isqrt(scaled.numerator // scaled.denominator)
    exact = Fraction(whole) ** 2 == scaled
    near = Fraction(2 * whole + (0 if exact else 1), 2) / Fraction(2) ** power
    bits, flags = rounded(letter, near, mode, precision)
    return bits, flags | _denormals(letter, a)


def minimum(letter: str, a: int, b: int, *, most: bool = False) -> Result:
    """min and max of x86: the second one unless the first is less (greater)."""
    if is_nan(letter, a) or is_nan(letter, b):
        return b, IE
    x, y = _ordered(letter, a), _ordered(letter, b)
    return (a if (x > y if most else x < y) else b), _denormals(letter, a, b)


def _ordered(letter: str, bits: int) -> Fraction:
    """A number to compare: infinities are beyond all others."""
    if is_infinite(letter, bits):
        return Fraction(2) ** 20000 * (-1 if sign_of(letter, bits) else 1)
    return decode(letter, bits)


def compare(condition: str, letter: str, a: int, b: int) -> tuple[bool, int]:
    """eq lt le uod neq nlt nle od, and the flags."""
    nans = is_nan(letter, a) or is_nan(letter, b)
    if nans:
        loud = condition in ("lt", "le", "nlt", "nle") or is_signalling(letter, a) or is_signalling(letter, b)
        return condition in ("uod", "neq", "nlt", "nle"), IE if loud else 0
    x, y = _ordered(letter, a), _ordered(letter, b)
    holds = {"eq": x == y, "lt": x < y, "le": x <= y, "uod": False, "neq": x != y, "nlt": x >= y, "nle": x > y,
             "od": True}
    return holds[condition], _denormals(letter, a, b)


def integral(value: Fraction, mode: int) -> int:
    """The integer that a number is rounded to."""
    below = value.numerator // value.denominator
    rest = value - below
    if not rest:
        return below
    if mode == NEAREST:
        return below + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1))
    return below + (mode == 2 or (mode == 3 and value < 0))


def to_integer(letter: str, a: int, width: int, mode: int) -> Result:
    """A signed integer; what does not fit gives the least one, with IE."""
    least = -(1 << width - 1)
    if not is_nan(letter, a) and not is_infinite(letter, a):
        value = decode(letter, a)
        whole = integral(value, mode)
        if least <= whole < -least:
            return whole & (1 << width) - 1, PE if whole != value else 0
    return 1 << width - 1, IE


def narrowed(source: str, target: str, a: int, mode: int) -> Result:
    """Into a narrower format; of a NaN the upper bits stay."""
    sign = sign_of(source, a)
    if is_nan(source, a):
        kept = fraction_of(source, a) >> FRACTION_BITS[source] - FRACTION_BITS[target]
        return quiet(target, infinity(target, sign) | kept), IE if is_signalling(source, a) else 0
    if is_infinite(source, a):
        return infinity(target, sign), 0
    bits, flags = _rounded(target, decode(source, a), mode, 0, sign)
    return bits, flags | (_denormals(source, a) if source != "x" else 0)


def from_integer(letter: str, value: int, mode: int) -> Result:
    return _rounded(letter, Fraction(value), mode, 0, 0)
