"""Floating point by the definition of IEEE 754 (``tests.guest.ieee``): single, double, 80 bits, packed, fused."""

from __future__ import annotations

import random
import re

from tests.cpu.fp.exact import DE, SHAPES, WIDTH, infinity
from tests.guest import ieee
from tests.guest.harness import M32, M64, POISON, Area, Row

MASKED, EXTENDED = 0x1F80, 0x37F
"""PFPFR and FPCR with all exceptions masked; FPCR: 64 bits of precision."""
PRECISION = {0: 24, 2: 53, 3: 64}
CONDITIONS = ("eq", "lt", "le", "uod", "neq", "nlt", "nle", "od")


def numbers(rng: random.Random, letter: str) -> int:
    """A number of any kind; exponents mostly near to each other."""
    width, stored = WIDTH[letter], ieee.FRACTION_BITS[letter]
    sign = rng.randrange(2)
    kind = rng.randrange(12)
    bias, shift = SHAPES[letter][2], stored + (letter == "x")
    integer = 1 << 63 if letter == "x" else 0
    fraction = rng.choice((0, 1, (1 << stored) - 1, rng.getrandbits(stored), rng.getrandbits(stored)))
    if kind == 0:
        return sign << width - 1
    if kind == 1:
        return infinity(letter, sign)
    if kind == 2:
        return infinity(letter, sign) | rng.getrandbits(stored - 1) | 1
    if kind == 3:
        return sign << width - 1 | max(fraction, 1)
    exponent = rng.choice((1, 2 * bias)) if kind == 4 else bias + rng.choice((0, 1, 31, 63, rng.randrange(-70, 70)))
    return sign << width - 1 | exponent << shift | integer | fraction


def finite(rng: random.Random, letter: str) -> int:
    while True:
        number = numbers(rng, letter)
        if not ieee.is_nan(letter, number) and not ieee.is_infinite(letter, number):
            return number


def two(rng: random.Random, letter: str) -> tuple[int, int]:
    """Two numbers, not both NaNs; now and then of nearly the same magnitude."""
    while True:
        a, b = numbers(rng, letter), numbers(rng, letter)
        if rng.random() < 0.2:
            b = a ^ rng.choice((0, 1, 1 << WIDTH[letter] - 1))
        if not (ieee.is_nan(letter, a) and ieee.is_nan(letter, b)):
            return a, b


ARITHMETIC = re.compile(r"f(add|sub|mul|div)([sd])")
COMBINED = re.compile(r"f(add|sub|mul)_(add|sub|rsub)([sd])")
COMPARE = re.compile(r"fcmp(eq|lt|le|uod|neq|nlt|nle|od)([sd])(b?)")


def _combined(first: str, second: str, letter: str, a: int, b: int, c: int, mode: int) -> ieee.Result:
    """Two operations, each rounded."""
    inner, flags = ieee.arithmetic(first, letter, a, b, mode)
    left, right = (inner, c) if second == "rsub" else (c, inner)
    value, more = ieee.arithmetic(second.replace("rsub", "sub"), letter, left, right, mode)
    return value, flags | more


def _converted(name: str, a: dict[str, int], mode: int) -> ieee.Result:
    """f?to?, i?to? by their names; ``a`` has the operand in every format."""
    match = re.fullmatch(r"([fi])([sdx])to([fi])([sdx])(tr)?", name)
    assert match
    kind, source, target_kind, target, truncate = match.groups()
    if kind == "i":
        width = 32 if source == "s" else 64
        value = a["i"] & (1 << width) - 1
        return ieee.from_integer(target, value - (value >> width - 1 << width), mode)
    number = a[source]
    if target_kind == "i":
        return ieee.to_integer(source, number, 32 if target == "s" else 64, 3 if truncate else mode)
    if "sdx".index(target) > "sdx".index(source):
        wide = ieee.widened(source, target, number)
        flags = DE if ieee.is_denormal(source, number) else 0
        return (ieee.quiet(target, wide), 1) if ieee.is_signalling(source, number) else (wide, flags)
    return ieee.narrowed(source, target, number, mode)


def scalar(check: str, row: Row) -> list[int]:
    """The result in %dr10, PFPFR in %dr11. Rows: doubles a, b, c; PFPFR; singles a, b, c; an integer."""
    name = re.split(r"[\s,]+", check.split(maxsplit=1)[1].strip('"'))[0]
    control, mode = row[3], row[3] >> 13 & 3
    letter = "s" if re.search(r"sb?$", name) else "d"
    a, b, c = (row[4:7] if letter == "s" else row[:3])
    if match := ARITHMETIC.fullmatch(name):
        value, flags = ieee.arithmetic(match[1], letter, a, b, mode)
    elif match := COMBINED.fullmatch(name):
        value, flags = _combined(match[1], match[2], letter, a, b, c, mode)
    elif name in ("fmins", "fmaxs", "fmind", "fmaxd"):
        value, flags = ieee.minimum(letter, a, b, most="max" in name)
    elif name in ("fsqrts", "fsqrttd"):
        value, flags = ieee.square_root(letter, a, mode)
    elif match := re.fullmatch(r"f(n?)m([as])([sd])", name):
        value, flags = ieee.fused(letter, a, b, c, mode, negate=bool(match[1]), subtract=match[2] == "s")
    elif match := COMPARE.fullmatch(name):
        holds, flags = ieee.compare(match[1], letter, a, b)
        if match[3]:
            return [3 if holds else 0, control | flags]
        value = (1 << WIDTH[letter]) - 1 if holds else 0
    else:
        value, flags = _converted(name, {"s": row[4], "d": row[0], "i": row[7]}, mode)
        letter = re.sub(r"tr$", "", name)[-1]
    return [POISON & ~M32 | value if letter == "s" else value, control | flags]


def scalar_rows() -> list[Row]:
    rng = random.Random("floats")
    found: list[Row] = []
    for number in range(40):
        control = MASKED | number % 4 << 13
        integer = rng.choice((rng.getrandbits(64), (1 << 63) - 1, 1 << 63, 0, 7, M64))
        d, s = two(rng, "d"), two(rng, "s")
        if number % 5 == 0:     # for conversions to integers
            d = (ieee.from_integer("d", rng.getrandbits(34) - (1 << 33), 0)[0] - rng.randrange(3), d[1])
        third = [finite(rng, letter) for letter in "ds"]
        # combined operations see one NaN at most when the third operand is none and the first result is none
        found.append((*d, third[0], control, *s, third[1], integer))
    return found


def finite_rows() -> list[Row]:
    """Near to each other, so that the product and the third number cancel."""
    rng = random.Random("fused")
    found: list[Row] = []
    for number in range(40):
        d, s = ([finite(rng, letter) for _ in range(3)] for letter in "ds")
        for letter, three in (("d", d), ("s", s)):
            if rng.random() < 0.5:
                product, _ = ieee.arithmetic("mul", letter, three[0], three[1], 0)
                if not ieee.is_infinite(letter, product):
                    three[2] = product ^ 1 << WIDTH[letter] - 1
        found.append((*d, MASKED | number % 4 << 13, *s, 0))
    return found


def packed(check: str, row: Row) -> list[int]:
    """Each lane as a scalar operation; PFPFR collects the flags."""
    name = re.split(r"[\s,]+", check.split(maxsplit=1)[1].strip('"'))[0][1:]
    if name.endswith("d"):
        return scalar(f"TF {name}", row)
    value = flags = 0
    for lane in range(2):
        part = (*row[:4], *(number >> 32 * lane & M32 for number in row[4:7]), 0)
        bits, state = scalar(f"TF {name}", part)
        value, flags = value | (bits & M32) << 32 * lane, flags | state
    return [value, flags]


def packed_rows() -> list[Row]:
    rng = random.Random("packed floats")
    return [(*two(rng, "d"), finite(rng, "d"), MASKED | number % 4 << 13,
             *(low | high << 32 for low, high in zip(two(rng, "s"), two(rng, "s"), strict=True)), 0, 0)
            for number in range(30)]


# --- 80 bits --------------------------------------------------------------------------------------------

EXTENDED_OPERATION = re.compile(r"fx(add|sub|mul|div)([sdx])([sdx])")


def extended(check: str, row: Row) -> list[int]:
    """%dr10, its extension, FPSR. Rows: significand and exponent of a, of b; FPCR; a double, a single, an integer."""
    name = re.split(r"[\s,]+", check.split(maxsplit=1)[1].strip('"'))[0]
    a, b = row[0] | row[1] << 64, row[2] | row[3] << 64
    mode, precision = row[4] >> 10 & 3, PRECISION[row[4] >> 8 & 3]
    target = name[-1]
    if match := EXTENDED_OPERATION.fullmatch(name):
        second = {"x": b, "d": row[5], "s": row[6]}[match[2]]
        wide = second if match[2] == "x" else ieee.widened(match[2], "x", second)
        value, flags = ieee.arithmetic(match[1], "x", a, wide, mode, precision)
        if match[2] != "x" and not flags & 1 and not ieee.is_nan("x", a):
            flags |= DE if ieee.is_denormal(match[2], second) and not flags & 4 else 0
    elif name == "fxsqrttxx":
        value, flags = ieee.square_root("x", a, mode, precision)
    elif match := re.fullmatch(r"fxcmp(eq|lt|le|uod|neq|nlt|nle|od)xb", name):
        holds, flags = ieee.compare(match[1], "x", a, b)
        return [3 if holds else 0, row[4] & 0, flags]
    else:
        value, flags = _converted(name, {"x": a, "d": row[5], "s": row[6], "i": row[7]}, mode)
        target = re.sub(r"tr$", "", name)[-1]
    if target == "x":
        return [value & M64, value >> 64, flags]
    return [POISON & ~M32 | value if target == "s" else value, 0, flags]


def extended_rows() -> list[Row]:
    """Without denormals and numbers near the ends of the exponent where precision is less than 64 bits: x87 does not
    round those as a format of that precision would."""
    rng = random.Random("extended")
    found: list[Row] = []
    for number in range(48):
        pc = (3, 3, 3, 2, 0)[number % 5]
        control = EXTENDED & ~(3 << 8) | pc << 8 | number % 4 << 10
        while True:
            a, b = two(rng, "x")
            if pc == 3 or all(ieee.is_zero("x", n) or 1000 < ieee.exponent_of("x", n) < 0x7000 for n in (a, b)):
                break
        narrow = finite(rng, "d"), finite(rng, "s")
        while ieee.is_nan("x", a) and any(map(ieee.is_denormal, "ds", narrow)):
            narrow = finite(rng, "d"), finite(rng, "s")
        if number % 6 == 0:
            a, _ = ieee.from_integer("x", rng.getrandbits(40) - (1 << 39), 0)
            a -= rng.randrange(3) if a & M64 else 0
        found.append((a & M64, a >> 64, b & M64, b >> 64, control, *narrow,
                      rng.choice((rng.getrandbits(64), 1 << 63, 0, M64))))
    return found


AREAS = (
    Area("floats", scalar, scalar_rows(), per_part=9),
    Area("packed_floats", packed, packed_rows(), per_part=9),
    Area("fused", scalar, finite_rows(), models=("e16c",), per_part=9),
    Area("extended", extended, extended_rows(), per_part=7),
)
