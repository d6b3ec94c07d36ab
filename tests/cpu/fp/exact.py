"""An independent model: IEEE arithmetic on fractions, written for clearness only.

``rounded`` gives the bits of a fraction in a format (s, d, x), and its flags, by the definition: the nearest
representable numbers below and above, then the choice. Nothing here is shared with the code under test.
"""

from __future__ import annotations

from fractions import Fraction

IE, DE, ZE, OE, UE, PE = 1, 2, 4, 8, 16, 32
NEAREST, DOWN, UP, TO_ZERO = range(4)

SHAPES = {"s": (24, -126, 127), "d": (53, -1022, 1023), "x": (64, -16382, 16383)}
"""Letter -> precision, exponents of the least and of the greatest normal number."""
WIDTH = {"s": 32, "d": 64, "x": 80}


def encode(letter: str, sign: int, magnitude: Fraction) -> int:
    """The bits of a number that the format has."""
    precision, least, _ = SHAPES[letter]
    exponent = max(_exponent(magnitude), least) if magnitude else least
    significand = magnitude / Fraction(2) ** (exponent - precision + 1)
    assert significand.denominator == 1
    whole = significand.numerator
    normal = whole >> precision - 1
    biased = exponent - least + 1 if normal else 0
    if letter == "x":
        return sign << 79 | biased << 64 | whole
    return sign << WIDTH[letter] - 1 | biased << precision - 1 | whole & (1 << precision - 1) - 1


def decode(letter: str, bits: int) -> Fraction:
    """The value of a finite number."""
    precision, least, _ = SHAPES[letter]
    stored = precision if letter == "x" else precision - 1
    sign, rest = bits >> WIDTH[letter] - 1, bits & (1 << WIDTH[letter] - 1) - 1
    biased, significand = rest >> stored, rest & (1 << stored) - 1
    if biased and letter != "x":
        significand |= 1 << stored
    return Fraction((-1) ** sign * significand) * Fraction(2) ** (max(biased, 1) - 1 + least - precision + 1)


def infinity(letter: str, sign: int) -> int:
    precision, _, greatest = SHAPES[letter]
    stored = precision if letter == "x" else precision - 1
    return sign << WIDTH[letter] - 1 | (2 * greatest + 1) << stored | (1 << 63 if letter == "x" else 0)


def _exponent(magnitude: Fraction) -> int:
    """The e with 2**e <= magnitude < 2**(e+1)."""
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    return guess if Fraction(2) ** guess <= magnitude else guess - 1


def neighbours(letter: str, number: Fraction) -> tuple[Fraction, Fraction]:
    """The numbers next to a positive normal one."""
    exponent = _exponent(number)
    unit = Fraction(2) ** (exponent - SHAPES[letter][0] + 1)
    return number - (unit / 2 if number == Fraction(2) ** exponent else unit), number + unit


def _round_at(magnitude: Fraction, unit: Fraction, sign: int, mode: int) -> Fraction:
    """The multiple of ``unit`` that ``magnitude`` is rounded to."""
    below = magnitude // unit * unit
    if below == magnitude:
        return below
    above = below + unit
    if mode == NEAREST:
        if magnitude - below == above - magnitude:
            return below if (below / unit) % 2 == 0 else above
        return below if magnitude - below < above - magnitude else above
    return above if mode == (DOWN if sign else UP) else below


def rounded(letter: str, value: Fraction, mode: int, precision: int = 0) -> tuple[int, int]:
    """Bits and flags of a number other than zero; ``precision``: of a result in 80 bits that is to have fewer."""
    _, least, greatest = SHAPES[letter]
    precision = precision or SHAPES[letter][0]
    sign, magnitude = int(value < 0), abs(value)
    exponent = _exponent(magnitude)
    free = _round_at(magnitude, Fraction(2) ** (exponent - precision + 1), sign, mode)
    if free >= Fraction(2) ** (greatest + 1):
        away = mode == NEAREST or mode == (DOWN if sign else UP)
        limit = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** greatest
        return infinity(letter, sign) if away else encode(letter, sign, limit), OE | PE
    tiny = free < Fraction(2) ** least
    result = _round_at(magnitude, Fraction(2) ** (max(exponent, least) - precision + 1), sign, mode)
    flags = PE if result != magnitude else 0
    return encode(letter, sign, result), flags | (UE if tiny and flags else 0)
